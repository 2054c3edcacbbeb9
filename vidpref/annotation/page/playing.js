// One or two clips that play in step: they start, pause, seek and begin again together.
const NEAR = 0.6; // frames that two clips may lie apart before one is set to the other's time

export class Playing {
  constructor(place, changed) {
    this.place = place;
    this.changed = changed; // is called when playing, time or a clip's fault changes
    this.videos = [];
    this.wanted = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const tick = () => {
      this.keepInStep();
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  // clips: [{token, fps, width}], names: what each is called
  show(clips, names, broken) {
    for (const video of this.videos) {
      video.removeAttribute("src"); // or the browser goes on loading it
      video.load();
    }
    this.place.replaceChildren();
    this.place.classList.remove("wide");
    this.fps = Math.max(...clips.map((clip) => clip.fps));
    this.videos = clips.map((clip, number) => {
      const figure = document.createElement("figure");
      const video = document.createElement("video");
      Object.assign(video, { muted: true, playsInline: true, preload: "auto", src: `/clip/${clip.token}` });
      video.disablePictureInPicture = true;
      video.classList.toggle("pixels", clip.width < 128);
      video.setAttribute("role", "img");
      video.setAttribute("aria-label", names[number] ? `Clip ${names[number]}` : "The clip");
      video.addEventListener("loadedmetadata", () => {
        if (video.videoWidth > 1.2 * video.videoHeight) this.place.classList.add("wide");
        this.changed();
      });
      video.addEventListener("canplay", () => this.go());
      video.addEventListener("ended", () => this.again());
      video.addEventListener("error", () => {
        if (!video.getAttribute("src")) return;
        video.broken = true;
        broken(clip.token, figure, video.error ? video.error.message : "");
        this.go();
      });
      figure.append(video);
      if (names[number]) {
        const caption = document.createElement("figcaption");
        caption.textContent = names[number];
        figure.append(caption);
      }
      this.place.append(figure);
      return video;
    });
    this.changed();
  }

  whole() {
    return this.videos.filter((video) => !video.broken);
  }

  get duration() {
    const known = this.whole().map((video) => video.duration).filter(Number.isFinite);
    return known.length ? Math.max(...known) : 0;
  }

  // the clip that lasts longest tells the time
  get leader() {
    return this.whole().find((video) => video.duration === this.duration) || this.whole()[0];
  }

  get time() {
    return this.leader ? this.leader.currentTime : 0;
  }

  go() {
    const whole = this.whole();
    if (this.wanted && whole.length && whole.every((video) => video.readyState >= 3)) {
      for (const video of whole) {
        if (!video.ended) video.play().catch(() => {}); // refused by the browser: the frame stays
      }
    }
    this.changed();
  }

  pause() {
    this.wanted = false;
    for (const video of this.videos) video.pause();
    this.seek(this.time);
  }

  toggle() {
    if (this.wanted) {
      this.pause();
    } else {
      this.wanted = true;
      this.videos.every((video) => video.broken || video.ended) ? this.restart() : this.go();
    }
    this.changed();
  }

  seek(time) {
    for (const video of this.whole()) {
      video.currentTime = Math.max(0, Math.min(time, (video.duration || 0) - 0.001));
    }
    this.changed();
  }

  step(frames) {
    if (this.wanted) this.pause();
    // half a frame on: the frame's middle, where no rounding shows its neighbour
    const frame = Math.floor(this.time * this.fps + 1e-3) + frames;
    this.seek((Math.max(0, frame) + 0.5) / this.fps);
  }

  restart() {
    this.wanted = true;
    this.seek(0);
    this.go();
  }

  again() {
    if (this.wanted && this.whole().every((video) => video.ended)) this.restart();
  }

  keepInStep() {
    const leader = this.leader;
    if (!leader || leader.paused) return;
    const whole = this.whole();
    if (whole.some((video) => !video.ended && !video.seeking && video.readyState < 3)) {
      for (const video of whole) video.pause(); // one has to load: all wait, until "canplay"
      return;
    }
    for (const video of whole) {
      const apart = Math.abs(video.currentTime - leader.currentTime);
      if (!video.ended && !video.seeking && apart > NEAR / this.fps && leader.currentTime < video.duration) {
        video.currentTime = leader.currentTime;
      }
    }
    this.changed();
  }
}
