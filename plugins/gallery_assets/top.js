// The head of the page: days, hours, channels, filter, size, colours, export.
"use strict";
Gallery.top = {
  view: { day: "", channel: "", onlyMarked: false },

  start(index) {
    this.index = index;
    this.fillChannels();
    this.fillDays();
    const on = (id, event, act) => Gallery.byId(id).addEventListener(event, act);
    on("day", "change", (event) => this.set({ day: event.target.value }));
    on("day-before", "click", () => this.stepDay(-1));
    on("day-after", "click", () => this.stepDay(1));
    on("channel", "change", (event) => this.set({ channel: event.target.value }));
    on("only-marked", "click", () => this.set({ onlyMarked: !this.view.onlyMarked }));
    on("size", "input", (event) => this.size(event.target.value));
    on("theme", "click", () => this.theme(this.nextTheme()));
    this.size(Gallery.store.get("ingest-gallery-size") ?? Math.min(140, Math.floor(window.innerWidth / 3.6)));
    this.theme(Gallery.store.get("ingest-gallery-theme") ?? "system");
    this.spy();
    const head = document.querySelector(".top");
    new ResizeObserver(() => {
      const sticky = getComputedStyle(head).position === "sticky";
      document.documentElement.style.setProperty("--top", sticky ? `${head.offsetHeight}px` : "0px");
    }).observe(head);
  },

  fillDays() {
    const counts = new Map();
    for (const [hour, [count]] of Gallery.hours) {
      const day = hour.slice(0, 10);
      counts.set(day, (counts.get(day) ?? 0) + count);
    }
    const options = Gallery.days().map((day) => Gallery.element("option", { value: day }, `${day} (${counts.get(day).toLocaleString("en")})`));
    Gallery.byId("day").replaceChildren(...options);
  },

  fillChannels() {
    const names = [...new Set([...Gallery.hours.values()].flatMap(([, , channels]) => Object.keys(channels)))].sort();
    const select = Gallery.byId("channel");
    select.hidden = names.length < 2;
    const all = Gallery.element("option", { value: "" }, "All channels");
    select.replaceChildren(all, ...names.filter(Boolean).map((name) => Gallery.element("option", { value: name }, name)));
  },

  set(change) {
    this.view = { ...this.view, ...change };
    const { day, channel, onlyMarked } = this.view;
    Gallery.byId("day").value = day;
    Gallery.byId("only-marked").setAttribute("aria-pressed", String(onlyMarked));
    const days = Gallery.days();
    Gallery.byId("day-before").disabled = days.indexOf(day) <= 0;
    Gallery.byId("day-after").disabled = days.indexOf(day) >= days.length - 1;
    Gallery.grid.show(day, channel, onlyMarked);
    this.showHours();
    this.summarize();
    window.scrollTo(0, 0);
    this.look();
  },

  stepDay(step) {
    const days = Gallery.days();
    const day = days[days.indexOf(this.view.day) + step];
    if (day) this.set({ day });
  },

  summarize() {
    const { left_out: leftOut, failed_items: failed } = this.index;
    const total = Gallery.hoursOf(this.view.day).reduce((sum, hour) => sum + Gallery.hours.get(hour)[0], 0);
    const parts = [`${Gallery.count(total, "segment", "segments")} on this day`];
    if (Gallery.days().length > 1) parts.push(`${Gallery.days().length} days`);
    if (failed) parts.push(`${Gallery.count(failed, "item", "items")} of the job failed, and are not here`);
    if (leftOut["without a start"]) parts.push(`${Gallery.count(leftOut["without a start"], "object does", "objects do")} not say when they start, and are not here`);
    if (!Gallery.store.works) parts.push("this browser keeps no marks: export them before you leave");
    Gallery.byId("summary").textContent = parts.join(" · ");
    Gallery.byId("marked-count").textContent = Gallery.marks.byStem.size.toLocaleString("en");
  },

  // 24 bars: how much there is in each hour, how much of it is gap, and where marks are.
  showHours() {
    const counts = [...Gallery.hours.values()].map(([count]) => count);
    const most = Math.max(1, ...counts);
    const bars = Array.from({ length: 24 }, (_, number) => this.bar(`${this.view.day}T${String(number).padStart(2, "0")}`, most));
    Gallery.byId("hours").replaceChildren(...bars);
    this.showNow(this.now);
  },

  bar(hour, most) {
    const [total, gap] = Gallery.hours.get(hour) ?? [0, 0];
    const shown = total ? Gallery.grid.countOf(hour) : 0;
    const marked = Gallery.marks.countOf(hour, this.view.channel);
    const about = [`${hour.slice(11)}:00`, Gallery.count(shown, "segment", "segments")];
    if (gap) about.push(`${Gallery.percent(gap)} gap`);
    if (marked) about.push(`${marked} marked`);
    const fill = Gallery.element("span", { class: "fill" });
    fill.style.setProperty("--height", `${(total / most) * 100}%`);
    fill.style.setProperty("--gap", `${gap * 100}%`);
    const label = Gallery.element("span", { class: "label" }, hour.slice(11));
    return Gallery.element(
      "button",
      { type: "button", class: marked ? "bar marked" : "bar", disabled: !shown, "data-hour": hour, title: about.join(" · "), "aria-label": about.join(", "), on: { click: () => Gallery.goToHour(hour) } },
      fill,
      label,
    );
  },

  // Which hour is in view.
  spy() {
    let asked = false;
    const ask = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        this.look();
      });
    };
    window.addEventListener("scroll", ask, { passive: true });
  },

  look() {
    const edge = Math.max(Gallery.byId("hours").getBoundingClientRect().bottom, 0) + 40;
    let now = "";
    for (const [hour, { section }] of Gallery.grid.sections) if (section.getBoundingClientRect().top <= edge) now = hour;
    this.showNow(now || [...Gallery.grid.sections.keys()][0]);
  },

  showNow(hour) {
    this.now = hour;
    for (const bar of Gallery.byId("hours").children) {
      if (bar.dataset.hour === hour) bar.setAttribute("aria-current", "true");
      else bar.removeAttribute("aria-current");
    }
  },

  size(pixels) {
    Gallery.byId("size").value = pixels;
    document.documentElement.style.setProperty("--cell", `${pixels}px`);
    Gallery.store.set("ingest-gallery-size", String(pixels));
    Gallery.grid.reserve();
  },

  nextTheme() {
    const themes = ["system", "light", "dark"];
    return themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
  },

  theme(name) {
    document.documentElement.dataset.theme = name;
    const button = Gallery.byId("theme");
    button.textContent = { system: "◐", light: "☀", dark: "☾" }[name];
    button.setAttribute("aria-label", `Colours: ${{ system: "as the system has them", light: "light", dark: "dark" }[name]}`);
    button.title = button.getAttribute("aria-label");
    Gallery.store.set("ingest-gallery-theme", name);
  },
};
