// The chosen segment, large: its picture with axes, its clip, its facts.
"use strict";
Gallery.stage = {
  segment: null,

  start() {
    for (const id of ["stage", "stage-img", "stage-cursor", "seek", "play", "mark", "note", "facts", "fault"])
      this[id.replace("stage-", "")] = Gallery.byId(id);
    const missing = () => this.sayMissing("The picture is not there.");
    this.img.addEventListener("error", missing);
    this.img.addEventListener("load", () => this.img.style.setProperty("aspect-ratio", `${this.img.naturalWidth} / ${this.img.naturalHeight}`));
    this.mark.addEventListener("click", () => Gallery.toggleMark());
    this.note.addEventListener("change", () => Gallery.marks.note(this.segment, this.note.value.trim()));
    this.seek.addEventListener("input", () => Gallery.player.seek(this.seek.value / 1000));
    Gallery.byId("stage-picture").addEventListener("click", (event) => this.playFrom(event));
    Gallery.byId("stage-close").addEventListener("click", () => Gallery.closeStage());
  },

  // A click into the picture plays from there.
  playFrom(event) {
    if (!this.segment?.clip) return;
    const box = event.currentTarget.getBoundingClientRect();
    const [left, right] = Gallery.plotSpan(this.segment);
    const at = ((event.clientX - box.left) / box.width - left) / (right - left);
    Gallery.player.play(this.segment, Math.min(Math.max(at, 0), 1));
  },

  show(segment) {
    this.segment = segment;
    this.stage.hidden = false;
    document.body.classList.add("staged");
    Gallery.byId("stage-time").textContent = `${segment.iso.slice(0, 10)} ${segment.time} UTC`;
    Gallery.byId("stage-channel").textContent = segment.facts.channel_id ?? "";
    this.fault.hidden = true;
    this.showPicture(segment);
    this.showFacts(segment);
    this.link("link-picture", segment.picture);
    this.link("link-clip", segment.clip);
    this.moved(segment, 0);
    this.cursor.hidden = true;
    this.showMark();
    this.showPlaying();
  },

  hide() {
    this.stage.hidden = true;
    document.body.classList.remove("staged");
  },

  showPicture(segment) {
    this.sayMissing("");
    this.img.hidden = !segment.picture;
    this.img.alt = `Spectrogram from ${segment.iso}`;
    if (segment.picture) this.img.src = Gallery.url(segment.picture);
    else this.sayMissing("There is no picture of this segment.");
    Gallery.axes(segment);
  },

  sayMissing(text) {
    const element = Gallery.byId("stage-missing");
    element.textContent = text;
    element.hidden = !text;
  },

  link(id, key) {
    const link = Gallery.byId(id);
    link.hidden = !key;
    if (!key) return;
    link.href = Gallery.url(key);
    link.download = key.split("/").pop();
    link.textContent = key.split("/").pop();
  },

  showFacts(segment) {
    const rows = Gallery.factsOf(segment).filter(([, value]) => value);
    this.facts.replaceChildren(
      ...rows.flatMap(([name, value]) => [Gallery.element("dt", {}, name), Gallery.element("dd", {}, value)]),
    );
  },

  showMark() {
    const mark = Gallery.marks.byStem.get(this.segment?.stem);
    this.mark.setAttribute("aria-pressed", String(Boolean(mark)));
    this.mark.textContent = mark ? "★ Marked" : "☆ Mark";
    Gallery.byId("note-label").hidden = !mark;
    if (document.activeElement !== this.note) this.note.value = mark?.note ?? "";
  },

  showPlaying() {
    const playing = Gallery.player.playing;
    this.play.textContent = playing ? "❚❚ Pause" : "▶ Play";
    this.play.disabled = this.seek.disabled = !this.segment?.clip;
    document.body.classList.toggle("playing", playing);
  },

  moved(segment, fraction) {
    if (segment !== this.segment) return;
    const [left, right] = Gallery.plotSpan(segment);
    const at = `${(left + fraction * (right - left)) * 100}%`;
    this.cursor.hidden = false;
    this.cursor.style.setProperty("--at", at);
    this.seek.value = Math.round(fraction * 1000);
    const length = segment.facts.duration_s ?? 0;
    this.seek.setAttribute("aria-valuetext", `${(fraction * length).toFixed(1)} s of ${length} s`);
    Gallery.grid.buttonOf(segment)?.style.setProperty("--at", at);
  },

  fail(sentence) {
    this.fault.textContent = sentence;
    this.fault.hidden = false;
    this.showPlaying();
  },
};

// From where to where the picture shows sound, as fractions of its width: a figure has a frame around.
Gallery.plotSpan = (segment) => {
  const box = (segment.facts.plot_box ?? "").split(",").map(Number);
  return box.length === 4 && box.every(Number.isFinite) && box[2] > box[0] ? [box[0], box[2]] : [0, 1];
};

Gallery.factsOf = (segment) => {
  const facts = segment.facts;
  const levels = segment.low !== null && segment.high !== null ? `${+segment.low.toFixed(1)} to ${+segment.high.toFixed(1)}` : "";
  const unit = facts.units === "counts" ? "dB re 1 count²/Hz" : facts.units?.replace("uPa^2", "µPa²");
  return [
    ["Length", facts.duration_s ? `${facts.duration_s} s` : ""],
    ["Rate", facts.sample_rate_hz ? Gallery.hertz(facts.sample_rate_hz) : ""],
    ["Colours", levels && `${levels} ${unit ?? "dB"}`],
    ["Gap", segment.gap ? Gallery.percent(segment.gap) : ""],
    ["Partial", segment.partial],
    ["Sound", facts.clip_scale ?? ""],
  ];
};

// Axes for a bare picture; a figure brings its own.
Gallery.axes = (segment) => {
  const { freq_min_hz: low, freq_max_hz: high, freq_scale: scale, duration_s: length, plot_box: framed } = segment.facts;
  const bare = segment.picture && !framed;
  const y = bare && high > low ? Gallery.ticks(Gallery.frequencies(low, high, scale), Gallery.hertz, (hz) => 1 - Gallery.place(hz, low, high, scale)) : [];
  const marks = length ? Gallery.round(0, length, 5) : [];
  const seconds = (s) => `${+s.toFixed(3)}${s === marks.at(-1) ? " s" : ""}`;
  const x = bare ? Gallery.ticks(marks, seconds, (s) => s / length) : [];
  Gallery.byId("axis-y").replaceChildren(...y);
  Gallery.byId("axis-x").replaceChildren(...x);
};

Gallery.ticks = (values, label, place) =>
  values.map((value) => {
    const tick = Gallery.element("span", {}, label(value));
    tick.style.setProperty("--at", `${place(value) * 100}%`);
    return tick;
  });

Gallery.place = (hz, low, high, scale) =>
  scale === "log" ? Math.log(hz / low) / Math.log(high / low) : (hz - low) / (high - low);

Gallery.frequencies = (low, high, scale) => {
  if (scale !== "log" || low <= 0) return Gallery.round(low, high, 6);
  const ticks = [];
  for (let decade = 10 ** Math.floor(Math.log10(low)); decade <= high; decade *= 10)
    for (const step of [1, 2, 5]) if (decade * step >= low && decade * step <= high) ticks.push(decade * step);
  return ticks;
};

// About `most` round numbers from `low` to `high`.
Gallery.round = (low, high, most) => {
  const rough = (high - low) / most;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * decade).find((size) => size >= rough * 0.999);
  const values = [];
  for (let number = Math.ceil(low / step - 1e-9); number * step <= high * (1 + 1e-9); number += 1) values.push(number * step);
  return values;
};
