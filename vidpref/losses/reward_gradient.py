"""The loss of PRFL and VADER: the gradient of a reward through the last of a sampler's steps."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from vidpref.diffusion.samplers import Chain, still_step
from vidpref.losses.alignment import AlignmentLoss
from vidpref.training.tuning import Tuning
from vidpref.typing import Array, Float, Key, PyTree

JUDGE = "judge"  # what the loss finds the reward's parameters by, in `frozen`


@dataclasses.dataclass(frozen=True, eq=False)
class RewardGradientLoss:
    """`loss_fn(trainable, frozen, batch, rng) -> (loss, metrics)`, minus the mean reward.

    A batch holds `state` [b, t, h, w, c], where the policy as it is came to; `first_step` [b], the
    sampler's next step, alike in all rows; what `chain` and `reward` read of b prompts; and, for
    the data term, `real`, a batch of real clips as `make_alignment_loss` takes it. From there the
    policy makes `steps` steps, and the reward judges what they lead to. The gradient goes back
    through these steps and no further (truncated backpropagation), and never into the reward, whose
    parameters are `frozen["judge"]`. Where the chain cuts off a predicted clip there is none. Every
    step is computed again for it, so that memory is that of one.

    With one step from a random time, and a reward of noisy clips, it is PRFL (Mi et al. 2025,
    "Video Generation Models Are Good Latent Reward Models", arXiv 2511.21541), whose code takes
    turns with a step on real data where here both are one loss; with the last steps and a reward of
    pixels, VADER (Prabhudesai et al. 2024, "Video Diffusion Alignment via Reward Gradients", arXiv
    2407.08737).

    Attributes:
        chain: `(params, batch) -> chain` of b clips, whose start is not looked at; its steps are
            those of DDIM at eta = 0.
        steps: how many the gradient goes through.
        reward: `(judge parameters, state, tau [b], batch) -> scores [b, d]` of states of the chain.
        weights: of each score in the reward, by dimension; their order is that of the scores.
        tuning: what is trained.
        target: reward at which a clip pulls no more: the loss is `max(target - reward, 0)`, as in
            PRFL's code. 0: minus the reward itself.
        real: the error on real clips.
        real_weight: weight of it.
    """

    chain: Callable[[PyTree, Mapping[str, Array]], Chain]
    steps: int
    reward: Callable[[PyTree, Array, Array, Mapping[str, Array]], Array]
    weights: Mapping[str, float]
    tuning: Tuning
    target: float = 0.0
    real: AlignmentLoss | None = None
    real_weight: float = 0.0

    warning = None  # nothing to be told of its first metrics

    def __call__(
        self, trainable: PyTree, frozen: PyTree, batch: Mapping[str, Array], rng: Key[Array, ""]
    ) -> tuple[Array, dict[str, Array]]:
        chain = self.chain(self.tuning.policy(trainable, frozen, None), batch)
        first = batch["first_step"][0]

        def step(x: Array, index: Array) -> tuple[Array, None]:
            return still_step(chain, x, index), None

        numbers = first + jnp.arange(self.steps)
        state, _ = jax.lax.scan(jax.checkpoint(step), batch["state"], numbers)
        tau = jnp.asarray(chain.times, state.dtype)[first + self.steps]
        rewards, scores = self.judged(frozen, state, tau, batch)
        pull = jax.nn.relu(self.target - rewards) if self.target else -rewards
        loss = pull.mean()
        metrics = {f"reward/{name}": scores[:, i].mean() for i, name in enumerate(self.weights)}
        metrics |= {"reward": rewards.mean(), "reward_std": rewards.std(), "judged_at": tau}
        if self.target:
            metrics["at_target"] = (rewards >= self.target).mean(dtype=jnp.float32)
        if self.real is not None:
            error, _ = self.real(trainable, frozen, batch["real"], rng)
            loss, metrics = loss + self.real_weight * error, metrics | {"error_real": error}
        return loss, metrics

    def judged(
        self, frozen: PyTree, state: Array, tau: Array, batch: Mapping[str, Array]
    ) -> tuple[Float[Array, " b"], Float[Array, "b d"]]:
        """Returns the reward of each state, and its scores, by a judge that nothing moves.

        Args:
            frozen: with the parameters of the judge.
            state: states of the chain, all of one time.
            tau: that time.
            batch: what the reward reads besides.
        """
        judge = jax.lax.stop_gradient(frozen[JUDGE])
        scores = self.reward(judge, state, jnp.full(state.shape[:1], tau), batch)
        return scores @ jnp.asarray(list(self.weights.values()), scores.dtype), scores
