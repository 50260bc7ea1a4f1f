// Marks and notes, kept in this browser by the stem of a segment's keys, and their export.
"use strict";
Gallery.marks = {
  byStem: new Map(),
  changed: () => {},

  open(id) {
    this.name = `ingest-gallery-marks ${id}`;
    this.read(Gallery.store.get(this.name));
    window.addEventListener("storage", (event) => {
      if (event.key !== this.name) return;
      this.read(event.newValue);
      this.changed();
    });
  },

  read(text) {
    let marks = [];
    try {
      marks = JSON.parse(text ?? "[]");
    } catch {
      Gallery.say("The marks of this browser are garbled, and were not read.");
    }
    this.byStem = new Map(marks.filter(Gallery.isMark).map((mark) => [mark.stem, mark]));
  },

  keep() {
    Gallery.store.set(this.name, JSON.stringify([...this.byStem.values()]));
    this.changed();
  },

  toggle(segment) {
    if (this.byStem.has(segment.stem)) this.byStem.delete(segment.stem);
    else this.byStem.set(segment.stem, Gallery.markOf(segment));
    this.keep();
    return this.byStem.has(segment.stem);
  },

  note(segment, note) {
    const mark = this.byStem.get(segment.stem);
    if (!mark) return;
    mark.note = note;
    this.keep();
  },

  // Marks of another browser are added; a note that is already here stays.
  add(text) {
    const given = JSON.parse(text);
    if (!Array.isArray(given) || !given.every(Gallery.isMark)) throw new Error("it is no list of marks");
    for (const mark of given) if (!this.byStem.get(mark.stem)?.note) this.byStem.set(mark.stem, mark);
    this.keep();
    return given.length;
  },

  has(segment) {
    return this.byStem.has(segment.stem);
  },

  countOf(hourOrDay, channel) {
    let count = 0;
    for (const mark of this.byStem.values())
      if (mark.start.startsWith(hourOrDay) && (!channel || mark.channel_id === channel)) count += 1;
    return count;
  },

  sorted() {
    return [...this.byStem.values()].sort((a, b) => (a.start < b.start ? -1 : 1));
  },

  text(form) {
    if (form === "json") return JSON.stringify(this.sorted(), null, 1) + "\n";
    const columns = ["start", "channel_id", "duration_s", "note", "picture", "clip", "marked_at"];
    const lines = this.sorted().map((mark) => columns.map((name) => Gallery.csvField(mark[name])).join(","));
    return [columns.join(","), ...lines, ""].join("\r\n");
  },
};

Gallery.isMark = (mark) =>
  typeof mark === "object" && mark !== null && typeof mark.stem === "string" && typeof mark.start === "string";

Gallery.markOf = (segment) => ({
  stem: segment.stem,
  start: segment.iso,
  channel_id: segment.facts.channel_id ?? "",
  duration_s: segment.facts.duration_s ?? null,
  note: "",
  picture: segment.picture,
  clip: segment.clip,
  marked_at: new Date().toISOString(),
});

// Quoted, and such that no spreadsheet takes it for a formula.
Gallery.csvField = (value) => {
  if (value === null || value === undefined) return "";
  const text = String(value);
  const safe = /^[=+\-@\t\r]/.test(text) && typeof value !== "number" ? "'" + text : text;
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};
