// One clip at a time, and where it is.
"use strict";
Gallery.player = {
  audio: new Audio(),
  segment: null,
  wanted: null, // where to begin once the clip that is loading says how long it is
  moved: () => {}, // (segment, fraction from 0 to 1)
  changed: () => {}, // playing or not
  ended: () => {},
  failed: () => {}, // (sentence)

  start() {
    const audio = this.audio;
    audio.preload = "auto";
    audio.preservesPitch = false; // fast playing lifts whales' calls into our hearing
    for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, () => this.changed());
    audio.addEventListener("play", () => this.follow());
    audio.addEventListener("loadedmetadata", () => {
      if (this.wanted !== null) this.seek(this.wanted);
      this.wanted = null;
    });
    audio.addEventListener("seeked", () => this.tell());
    audio.addEventListener("ended", () => {
      this.tell();
      this.ended();
    });
    audio.addEventListener("error", () => {
      if (this.segment) this.failed(Gallery.audioFault(audio.error));
    });
  },

  get playing() {
    return !this.audio.paused && !this.audio.ended;
  },

  get fraction() {
    const length = this.audio.duration || this.segment?.facts.duration_s || 0;
    return length ? Math.min(this.audio.currentTime / length, 1) : 0;
  },

  choose(segment) {
    if (segment === this.segment) return;
    this.audio.pause();
    this.segment = segment;
    this.wanted = null;
    if (segment?.clip) {
      this.audio.src = Gallery.url(segment.clip);
      this.audio.playbackRate = this.audio.defaultPlaybackRate;
    } else {
      this.audio.removeAttribute("src");
    }
    this.changed();
  },

  play(segment, fraction) {
    this.choose(segment);
    if (!segment.clip) return;
    if (this.audio.error) this.audio.load();
    if (fraction !== undefined) this.seek(fraction);
    this.audio.play().catch((error) => {
      // A choice of another segment while this one starts is no fault.
      if (error.name === "NotAllowedError") this.failed("The browser waits for a click before it plays sound.");
    });
  },

  pause() {
    this.audio.pause();
  },

  seek(fraction) {
    if (this.audio.readyState >= 1) this.audio.currentTime = fraction * this.audio.duration;
    else this.wanted = fraction;
  },

  speed(rate) {
    this.audio.defaultPlaybackRate = rate;
    this.audio.playbackRate = rate;
  },

  tell() {
    if (this.segment) this.moved(this.segment, this.fraction);
  },

  follow() {
    this.tell();
    if (this.playing) requestAnimationFrame(() => this.follow());
  },
};

Gallery.audioFault = (error) => {
  if (error?.code === 4) return "The clip is not there, or of a form that this browser does not play. Its link below saves it.";
  if (error?.code === 3) return "The clip is damaged, or of a form that this browser does not play. Its link below saves it.";
  return "The clip could not be read.";
};
