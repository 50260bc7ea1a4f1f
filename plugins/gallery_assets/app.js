// Puts the parts together: choosing, playing, walking, marking, and the keys for it.
"use strict";
Gallery.start = (index) => {
  Gallery.marks.open(index.id);
  Gallery.grid.start();
  Gallery.stage.start();
  Gallery.player.start();
  Gallery.top.start(index);
  Gallery.wire();
  Gallery.wireMarks();
  Gallery.openAddress();
};

Gallery.wire = () => {
  const { player, stage, grid, marks, byId } = Gallery;
  grid.act = (segment) => Gallery.choose(segment, { play: true });
  player.moved = (segment, fraction) => stage.moved(segment, fraction);
  player.changed = () => stage.showPlaying();
  player.failed = (sentence) => stage.fail(sentence);
  player.ended = () => byId("play-on").checked && Gallery.walk(1, { play: true });
  marks.changed = () => {
    grid.redecorate();
    stage.showMark();
    Gallery.top.showHours();
    Gallery.top.summarize();
  };
  byId("play").addEventListener("click", () => Gallery.playOrPause());
  byId("before").addEventListener("click", () => Gallery.walk(-1));
  byId("after").addEventListener("click", () => Gallery.walk(1));
  byId("speed").addEventListener("change", (event) => player.speed(Number(event.target.value)));
  byId("open-help").addEventListener("click", () => byId("help-dialog").showModal());
  for (const close of document.querySelectorAll("dialog .close"))
    close.addEventListener("click", () => close.closest("dialog").close());
  document.addEventListener("keydown", Gallery.key);
  window.addEventListener("hashchange", () => Gallery.openAddress());
};

// Chooses a segment. It plays if it is told to, or if another was playing.
Gallery.choose = async (segment, { play = Gallery.player.playing, focus = true } = {}) => {
  Gallery.stage.show(segment);
  if (play && segment.clip) Gallery.player.play(segment, 0);
  else Gallery.player.choose(segment);
  await Gallery.grid.choose(segment, { focus });
  Gallery.address = `#${segment.iso}${segment.facts.channel_id ? "/" + encodeURIComponent(segment.facts.channel_id) : ""}`;
  history.replaceState(null, "", Gallery.address);
};

Gallery.playOrPause = () => {
  const { player, stage } = Gallery;
  if (!stage.segment) return;
  if (player.playing) player.pause();
  else player.play(stage.segment, player.audio.ended ? 0 : undefined);
};

Gallery.walk = async (step, options) => {
  const { grid } = Gallery;
  const next = grid.chosen ? await grid.beside(step) : await Gallery.firstOf([...grid.sections.keys()][0]);
  if (next) await Gallery.choose(next, options);
  else Gallery.say(step > 0 ? "That was the last segment of the day." : "That was the first segment of the day.");
};

Gallery.firstOf = async (hour) => (hour ? (await Gallery.grid.build(hour))[0] : null);

Gallery.goToHour = async (hour) => {
  const { grid } = Gallery;
  grid.sections.get(hour)?.section.scrollIntoView({ block: "start" });
  const first = await Gallery.firstOf(hour);
  if (first) await Gallery.choose(first, { play: false });
  grid.sections.get(hour)?.section.scrollIntoView({ block: "start" });
};

Gallery.toEndOfHour = async (last) => {
  const { grid } = Gallery;
  if (!grid.chosen) return;
  const segments = await grid.build(grid.chosen.hour);
  await Gallery.choose(segments[last ? segments.length - 1 : 0]);
};

Gallery.besideHour = (direction) => {
  const { grid, top } = Gallery;
  const hour = grid.hourBeside(grid.chosen?.hour ?? top.now, direction);
  if (hour) return Gallery.goToHour(hour);
  return undefined;
};

Gallery.toggleMark = () => {
  const { segment } = Gallery.stage;
  if (!segment) return;
  const marked = Gallery.marks.toggle(segment);
  Gallery.say(`${segment.time} ${marked ? "marked" : "not marked any more"}`);
};

Gallery.writeNote = () => {
  const { stage, marks, byId } = Gallery;
  if (!stage.segment) return;
  if (!marks.has(stage.segment)) Gallery.toggleMark();
  byId("note").focus();
};

Gallery.keys = {
  ArrowLeft: () => Gallery.walk(-1),
  ArrowRight: () => Gallery.walk(1),
  ArrowUp: () => Gallery.walk(Gallery.grid.chosen ? -Gallery.grid.rowLength() : 1),
  ArrowDown: () => Gallery.walk(Gallery.grid.chosen ? Gallery.grid.rowLength() : 1),
  Home: () => Gallery.toEndOfHour(false),
  End: () => Gallery.toEndOfHour(true),
  PageUp: () => Gallery.besideHour(-1),
  PageDown: () => Gallery.besideHour(1),
  " ": () => Gallery.playOrPause(),
  m: () => Gallery.toggleMark(),
  n: () => Gallery.writeNote(),
  Escape: () => Gallery.closeStage(),
  f: () => Gallery.top.set({ onlyMarked: !Gallery.top.view.onlyMarked }),
  "?": () => Gallery.byId("help-dialog").showModal(),
};

Gallery.closeStage = () => {
  const { grid, player, stage } = Gallery;
  player.choose(null);
  stage.hide();
  const button = grid.chosen && grid.buttonOf(grid.chosen);
  if (button) button.focus();
};

// Keys belong to the page unless they belong to a field, a dialog or a button that is in focus.
Gallery.key = (event) => {
  const target = event.target;
  const inField = target.closest("input, select, textarea, dialog");
  const onButton = event.key === " " && target.closest("button, a") && !target.closest(".cell");
  if (inField || onButton || event.ctrlKey || event.metaKey || event.altKey) {
    if (event.key === "Escape" && target.id === "note") Gallery.grid.buttonOf(Gallery.grid.chosen)?.focus();
    return;
  }
  const act = Gallery.keys[event.key] ?? Gallery.keys[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
};

// `#2019-01-12T15:10:05.000Z/OO.HYEA2..YDH` opens at that segment; a day or an hour is enough.
Gallery.openAddress = async () => {
  const hash = location.hash.slice(1);
  if (Gallery.address === location.hash && hash) return;
  const [time, channel] = hash.split("/").map((part) => Gallery.decoded(part));
  const hour = time.slice(0, 13);
  const day = Gallery.days().includes(time.slice(0, 10)) ? time.slice(0, 10) : (Gallery.days()[0] ?? "");
  Gallery.top.set({ day });
  if (!Gallery.hours.has(hour)) return;
  const segments = await Gallery.segmentsOf(hour);
  const from = time.replace(/Z$/, "");
  const found = segments.find(({ iso, facts }) => iso >= from && (!channel || facts.channel_id === channel));
  if (found) await Gallery.choose(found, { play: false, focus: false });
  Gallery.grid.buttonOf(found ?? segments[0])?.scrollIntoView({ block: "center" });
};

Gallery.decoded = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

Gallery.wireMarks = () => {
  const { byId, marks } = Gallery;
  const show = () => {
    byId("marks-about").textContent = `${Gallery.count(marks.byStem.size, "segment is", "segments are")} marked in this browser.`;
    byId("marks-text").value = marks.text(byId("marks-form").value);
  };
  byId("open-marks").addEventListener("click", () => {
    show();
    byId("marks-dialog").showModal();
  });
  byId("marks-form").addEventListener("change", show);
  byId("marks-copy").addEventListener("click", () => {
    byId("marks-text").select();
    document.execCommand("copy"); // a page from a folder has no other way to the clipboard
    byId("marks-about").textContent = "Copied.";
  });
  byId("marks-save").addEventListener("click", () => {
    const form = byId("marks-form").value;
    const href = URL.createObjectURL(new Blob([marks.text(form)], { type: form === "csv" ? "text/csv" : "application/json" }));
    Gallery.element("a", { href, download: `marks.${form}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  });
  byId("marks-read").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    try {
      const count = marks.add(await file.text());
      show();
      byId("marks-about").textContent = `${Gallery.count(count, "mark was", "marks were")} read in.`;
    } catch (error) {
      byId("marks-about").textContent = `The file cannot be read: ${error.message}.`;
    }
    event.target.value = "";
  });
};
