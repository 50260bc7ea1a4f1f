// The pictures of a day, an hour after the other. Only hours near the view hold elements: a day has 17,280 pictures.
"use strict";
Gallery.grid = {
  sections: new Map(), // hour -> {section, cells, heading, segments (shown ones, where built)}
  chosen: null,
  aspect: 1,
  act: () => {}, // (segment) was clicked

  start() {
    this.root = Gallery.byId("pictures");
    const options = { rootMargin: "1200px 0px" };
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const hour = entry.target.dataset.hour;
        if (entry.isIntersecting) this.build(hour);
        else this.clear(hour);
      }
    }, options);
    new ResizeObserver(() => this.reserve()).observe(this.root);
  },

  // Shows a day's hours, of one channel or all (""), marked ones or all.
  show(day, channel, onlyMarked) {
    this.observer.disconnect();
    this.channel = channel;
    this.onlyMarked = onlyMarked;
    this.sections.clear();
    this.root.replaceChildren();
    for (const hour of Gallery.hoursOf(day)) if (this.countOf(hour)) this.append(hour);
    if (!this.sections.size) this.root.append(Gallery.element("p", { class: "empty" }, this.emptyText()));
    this.reserve();
    for (const { section } of this.sections.values()) this.observer.observe(section);
  },

  emptyText() {
    if (!Gallery.hours.size) return "The job stored no pictures or clips that say when they start.";
    return this.onlyMarked
      ? "Nothing is marked on this day. Choose a picture and press M, or the star beneath it."
      : "There is nothing on this day.";
  },

  countOf(hour) {
    if (this.onlyMarked) return Gallery.marks.countOf(hour, this.channel);
    const [count, , channels] = Gallery.hours.get(hour);
    return this.channel ? (channels[this.channel] ?? 0) : count;
  },

  append(hour) {
    const heading = Gallery.element("h2", {}, `${hour.slice(11)}:00`, Gallery.element("small", {}, this.aboutHour(hour)));
    const cells = Gallery.element("div", { class: "cells" });
    const section = Gallery.element("section", { class: "hour", "data-hour": hour }, heading, cells);
    this.sections.set(hour, { section, cells, heading, segments: null });
    this.root.append(section);
  },

  aboutHour(hour) {
    const gap = Gallery.hours.get(hour)[1];
    const count = Gallery.count(this.countOf(hour), "segment", "segments");
    return gap && !this.onlyMarked ? `${count} · ${Gallery.percent(gap)} gap` : count;
  },

  wanted(segment) {
    return (
      (!this.channel || segment.facts.channel_id === this.channel) &&
      (!this.onlyMarked || Gallery.marks.has(segment) || segment === this.chosen)
    );
  },

  // The segments of an hour that are shown; builds its cells.
  async build(hour) {
    const shown = this.sections.get(hour);
    if (!shown || shown.segments) return shown?.segments ?? [];
    let segments;
    try {
      segments = (await Gallery.segmentsOf(hour)).filter((segment) => this.wanted(segment));
    } catch (error) {
      const again = Gallery.element("button", { type: "button", on: { click: () => this.build(hour) } }, "Try again");
      shown.cells.replaceChildren(Gallery.element("p", { class: "empty" }, `${error.message}. `, again));
      return [];
    }
    if (this.sections.get(hour) !== shown || shown.segments) return shown.segments ?? [];
    shown.segments = segments;
    shown.cells.replaceChildren(...segments.map((segment) => this.cell(segment)));
    shown.cells.style.minHeight = "";
    return segments;
  },

  clear(hour) {
    const shown = this.sections.get(hour);
    if (!shown?.segments || shown.cells.contains(document.activeElement)) return;
    shown.segments = null;
    shown.cells.style.minHeight = `${this.height(hour, shown.cells)}px`;
    shown.cells.replaceChildren();
  },

  cell(segment) {
    const picture = Gallery.element("span", { class: "picture" }, Gallery.element("span", { class: "cursor" }));
    if (segment.picture) picture.prepend(this.image(segment));
    else picture.append(Gallery.element("span", { class: "none" }, "no picture"));
    const button = Gallery.element(
      "button",
      { type: "button", class: "cell", tabindex: -1, "data-stem": segment.stem, on: { click: () => this.act(segment) } },
      picture,
      Gallery.element("span", { class: "caption" }, segment.time),
    );
    button.segment = segment;
    this.decorate(button);
    return button;
  },

  image(segment) {
    const load = (event) => {
      const aspect = event.target.naturalWidth / event.target.naturalHeight;
      if (Math.abs(aspect - this.aspect) > 0.01) this.setAspect(aspect);
    };
    const error = (event) => event.target.replaceWith(Gallery.element("span", { class: "none" }, "picture not found"));
    const on = { load, error };
    return Gallery.element("img", { loading: "lazy", decoding: "async", alt: "", src: Gallery.url(segment.picture), on });
  },

  setAspect(aspect) {
    this.aspect = aspect;
    this.root.style.setProperty("--aspect", aspect);
    this.reserve();
  },

  decorate(button) {
    const segment = button.segment;
    const marked = Gallery.marks.has(segment);
    const chosen = segment === this.chosen;
    const flaws = [segment.gap ? `${Gallery.percent(segment.gap)} gap` : "", segment.partial ? "partial" : ""];
    const about = [`${segment.time} UTC`, segment.facts.channel_id, ...flaws, marked ? "marked" : ""];
    button.setAttribute("aria-label", about.filter(Boolean).join(", "));
    button.title = about.filter(Boolean).join(" · ");
    button.classList.toggle("marked", marked);
    button.classList.toggle("flawed", Boolean(segment.gap || segment.partial));
    button.classList.toggle("silent", !segment.clip);
    button.toggleAttribute("aria-current", false);
    if (chosen) button.setAttribute("aria-current", "true");
    button.tabIndex = chosen ? 0 : -1;
  },

  columns(cells) {
    const tracks = getComputedStyle(cells).gridTemplateColumns.split(" ").filter(Boolean);
    return Math.max(tracks.length, 1);
  },

  height(hour, cells) {
    const style = getComputedStyle(cells);
    const width = parseFloat(style.gridTemplateColumns) || 140;
    const rows = Math.ceil(this.countOf(hour) / this.columns(cells));
    return rows * (width / this.aspect + 20 + parseFloat(style.rowGap || 0));
  },

  // Hours that are not built keep the room that they will take, so that the view does not jump.
  reserve() {
    for (const [hour, shown] of this.sections)
      if (!shown.segments) shown.cells.style.minHeight = `${this.height(hour, shown.cells)}px`;
  },

  buttonOf(segment) {
    const cells = this.sections.get(segment.hour)?.cells;
    return cells ? [...cells.children].find((cell) => cell.segment === segment) : undefined;
  },

  redecorate() {
    for (const { cells, segments } of this.sections.values())
      if (segments) for (const button of cells.children) this.decorate(button);
  },

  async choose(segment, { focus = true } = {}) {
    const before = this.chosen;
    this.chosen = segment;
    await this.build(segment.hour);
    const old = before && this.buttonOf(before);
    if (old) {
      old.style.removeProperty("--at");
      this.decorate(old);
    }
    const button = this.buttonOf(segment);
    if (!button) return;
    this.decorate(button);
    if (focus) button.focus({ preventScroll: true });
    button.scrollIntoView({ block: "nearest" });
  },

  // Of a row of hours the next (direction 1) or previous (-1) one that is shown.
  hourBeside(hour, direction) {
    const hours = [...this.sections.keys()];
    return hours[hours.indexOf(hour) + direction];
  },

  // The segment that lies `step` after the chosen one, through the borders of hours; null at the day's ends.
  async beside(step) {
    const { hour } = this.chosen;
    const segments = await this.build(hour);
    const wanted = segments.indexOf(this.chosen) + step;
    if (segments[wanted]) return segments[wanted];
    const next = this.hourBeside(hour, Math.sign(step));
    if (!next) return null;
    const others = await this.build(next);
    return others[step > 0 ? 0 : others.length - 1] ?? null;
  },

  rowLength() {
    return this.columns(this.sections.get(this.chosen.hour)?.cells ?? this.root);
  },
};
