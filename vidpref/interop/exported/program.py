"""The generator of the folder: its networks in a row, as an object and as a program."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .files import check_out, read_npy, read_picture, read_safetensors, write_clip
from .layers import NETWORKS, VideoNetwork
from .sampling import PROCESSES, ddim, unipc
from .text import embed_words


class VideoGenerator(nn.Module):
    """A generator and, behind it, the super-resolution of a cascade.

    Args:
        config: what config.json holds.
    """

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        self.process = PROCESSES[config["process"]["name"]](**config["process"]["fields"])
        for name, network in config["networks"].items():
            self.add_module(name, NETWORKS[network["network"]](**network["fields"]))

    @classmethod
    def load(cls, folder: str | Path) -> "VideoGenerator":
        """Reads the generator of an exported folder."""
        folder = Path(folder)
        generator = cls(json.loads((folder / "config.json").read_text(encoding="utf-8")))
        for name in generator.config["networks"]:
            tensors = read_safetensors(folder / f"{name}.safetensors")
            generator.get_submodule(name).load_state_dict(tensors)
        return generator.eval()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @torch.no_grad()
    def draw(
        self,
        prompts: Sequence[str] = (),
        first_frame: Tensor | None = None,
        *,
        states: tuple[Tensor, Tensor] | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance_scale: float | None = None,
        noise: Sequence[Tensor] = (),
        step_noise: Sequence[Tensor] = (),
    ) -> Tensor:
        """Draws a clip of each prompt, uint8 [b, t, h, w, 3].

        Args:
            prompts: what the clips show.
            first_frame: uint8 [h, w, 3] or [b, h, w, 3], for a generator that starts from one.
            states: in place of prompts, states [b, l, d] of another text encoder, and the mask
                [b, l] of the real tokens; the states of others are 0.
            seed: seed of the noise; not the noise that vidpref draws from it.
            steps: calls of each network; as in the run by default.
            guidance_scale: strength of classifier-free guidance; as in the run by default.
            noise: for each network what it starts from [b, c, t, h, w], in place of `seed`.
            step_noise: likewise what its steps add [b, steps, c, t, h, w], where they do.
        """
        text, text_mask = (x.to(self.device) for x in states or self.embed(prompts))
        random = torch.Generator().manual_seed(seed)
        given = {"first_frame": self.first_frames(first_frame, len(text))}
        pixels = None
        for i, (name, network) in enumerate(self.config["networks"].items()):
            shape = [len(text), 3, *(network[size] for size in ("frames", "height", "width"))]
            x = noise[i] if i < len(noise) else torch.randn(shape, generator=random)
            if list(x.shape) != shape:
                raise ValueError(f"the noise is {list(x.shape)}, the {name} wants {shape}")
            x = x.to(self.device, torch.float32)
            added = step_noise[i].to(self.device) if i < len(step_noise) else None
            condition = {"text": text, "text_mask": text_mask} | given
            settings = {"steps": steps or network["steps"], "guidance_scale": guidance_scale}
            clip = self.sample(name, x, condition, **settings, random=random, step_noise=added)
            broken = (~clip.isfinite()).flatten(1).any(dim=1)
            if broken.any():
                which = ", ".join(map(str, broken.nonzero().flatten().tolist()))
                raise ValueError(f"{name}: NaN or infinite pixels in clips {which} of {len(clip)}")
            pixels = ((clip + 1.0) * 127.5).round().to(torch.uint8)
            given = {"low_res": pixels.float() / 127.5 - 1.0}
        return pixels.permute(0, 2, 3, 4, 1).cpu()

    def sample(self, name, noise, condition, *, steps, guidance_scale, random, step_noise=None):
        """Draws clips [b, c, t, h, w] in [-1, 1] from one network; see `draw`."""
        settings = self.config["sampler"]
        scale = settings["guidance_scale"] if guidance_scale is None else guidance_scale
        denoise = guided(self.get_submodule(name), condition, scale)

        def fresh(step: int) -> Tensor:
            if step_noise is not None:
                return step_noise[:, step]
            return torch.randn(noise.shape, generator=random).to(noise)

        if settings["name"] == "unipc":
            clip = unipc(self.process, denoise, noise, steps)
        else:  # euler is ddim on a flow, and ddpm is ddim with eta 1
            clip = ddim(self.process, denoise, noise, steps, settings["eta"], fresh)
        return clip.clamp(-1.0, 1.0)

    def embed(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Embeds prompts, where the run's text encoder is the word table."""
        text = self.config["text"]
        if text["name"] != "words":
            raise ValueError(
                f"this generator reads {text['name']} states of width {text['dim']}, of "
                f"{text['length']} tokens; give them (--text_states, or `states` of `draw`)"
            )
        return embed_words(list(prompts), text["length"], text["dim"], text["truncate"])

    def first_frames(self, frame: Tensor | None, count: int) -> Tensor | None:
        first = next(iter(self.config["networks"].values()))
        if not first["fields"]["first_frame"]:
            if frame is not None:
                raise ValueError("this generator takes no image: it draws from the prompt alone")
            return None
        if frame is None:
            raise ValueError("this generator starts from an image, the first frame of its clips")
        frames = frame.expand(count, first["height"], first["width"], 3).movedim(-1, 1)
        return frames.to(self.device).float() / 127.5 - 1.0


def guided(network: VideoNetwork, condition: dict[str, Tensor | None], scale: float):
    """Classifier-free guidance by the text, u + scale (c - u): `(x, tau) -> output`."""

    def doubled(x: Tensor | None) -> Tensor | None:
        return x if x is None else torch.cat([x, x])

    if scale != 1.0:
        mask = condition["text_mask"]
        condition = {name: doubled(x) for name, x in condition.items()}
        condition["text_mask"] = torch.cat([mask, torch.zeros_like(mask)])

    def denoise(x: Tensor, tau: float) -> Tensor:
        rows = x if scale == 1.0 else doubled(x)
        output = network(rows, torch.full((len(rows),), tau, device=x.device), **condition)
        if scale == 1.0:
            return output
        with_text, without_text = output.chunk(2)
        return without_text + scale * (with_text - without_text)

    return denoise


def padded(states: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """States [n, d] of the real tokens of one text as `VideoGenerator.draw` takes them."""
    if states.ndim != 2 or len(states) > length:
        raise ValueError(f"want states [up to {length} tokens, width], not {list(states.shape)}")
    text = torch.zeros(1, length, states.shape[1])
    text[0, : len(states)] = states
    return text, torch.arange(length)[None] < len(states)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draws a clip for a prompt.")
    parser.add_argument("--prompt", help="what the clip shows")
    parser.add_argument("--text_states", type=Path, help=".npy [tokens, width], not a prompt")
    parser.add_argument("--image", type=Path, help="first frame: a picture, or .npy [h, w, 3]")
    parser.add_argument("--out", type=Path, default="clip.npy", help=".npy, .gif or .webp")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="as in the run by default")
    parser.add_argument("--guidance_scale", type=float, help="as in the run by default")
    parser.add_argument("--init_noise", type=Path, help=".npy [1, c, t, h, w] to start from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    flags = parser.parse_args()
    if bool(flags.prompt) == bool(flags.text_states):
        parser.error("give either --prompt or --text_states")
    if flags.steps is not None and flags.steps < 1:
        parser.error("--steps: want 1 or more")
    try:
        draw(flags)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


def draw(flags: argparse.Namespace) -> None:
    check_out(flags.out)
    generator = VideoGenerator.load(Path(__file__).parent).to(flags.device)
    first = next(iter(generator.config["networks"].values()))
    image = states = None
    if flags.image:
        image = read_picture(flags.image, first["height"], first["width"])
    if flags.text_states:
        states = padded(read_npy(flags.text_states).float(), generator.config["text"]["length"])
    clips = generator.draw(
        [flags.prompt],
        image,
        states=states,
        seed=flags.seed,
        steps=flags.steps,
        guidance_scale=flags.guidance_scale,
        noise=[read_npy(flags.init_noise)] if flags.init_noise else (),
    )
    write_clip(flags.out, clips[0], generator.config["fps"])
    print(flags.out)


if __name__ == "__main__":
    main()
