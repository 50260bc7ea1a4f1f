// What all parts of the page use. Text from the data reaches the page as text only, never as markup.
"use strict";
const Gallery = {};

Gallery.byId = (id) => document.getElementById(id);

Gallery.element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, String(value));
  }
  made.append(...children);
  return made;
};

// A key as a URL relative to the page: `#`, `?` and `%` in names are part of the name.
Gallery.url = (key) =>
  "./" + Gallery.root + key.split("/").map((part) => encodeURIComponent(part)).join("/");

Gallery.say = (text) => {
  Gallery.byId("live").textContent = text;
};

Gallery.count = (number, one, many) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

Gallery.percent = (fraction) => {
  const percent = fraction * 100;
  return percent > 0 && percent < 1 ? "<1 %" : `${Math.round(percent)} %`;
};

// 1234.5 Hz as "1.23 kHz", with as many figures as a label needs.
Gallery.hertz = (hz) => (hz >= 1000 ? `${+(hz / 1000).toPrecision(3)} kHz` : `${+hz.toPrecision(3)} Hz`);

// The browser's own store. A private window or a strict setting may refuse it; then things last as long as the page.
Gallery.store = {
  works: true,
  memory: new Map(),
  get(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      this.works = false;
      return this.memory.get(name) ?? null;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(name, value);
    } catch {
      this.works = false;
      this.memory.set(name, value);
    }
  },
};
