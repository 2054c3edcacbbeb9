// Clips play only while they can be seen; a reader may stop them all.
const videos = [...document.querySelectorAll("video")];
const button = document.getElementById("play");
const visible = new Set();
let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

function update(video) {
  if (playing && visible.has(video)) {
    video.play().catch(() => {}); // refused by the browser's settings: the first frame stays
  } else {
    video.pause();
  }
}

function updateAll() {
  videos.forEach(update);
  button.textContent = playing ? "Pause all clips" : "Play all clips";
}

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    isIntersecting ? visible.add(target) : visible.delete(target);
    update(target);
  }
});

if (videos.length) {
  button.hidden = false;
  button.addEventListener("click", () => {
    playing = !playing;
    updateAll();
  });
  videos.forEach((video) => observer.observe(video));
  updateAll();
}
