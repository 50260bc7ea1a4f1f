// The list of hours, and the segments of each hour, which come as scripts when they are wanted.
"use strict";
Gallery.root = "";
Gallery.hours = new Map(); // "2019-01-12T15" -> [count, gap fraction, {channel: count}]
Gallery.loaded = new Map(); // "2019-01-12T15" -> a promise of its segments
Gallery.arrivals = new Map(); // hours asked for -> what to do with their segments
Gallery.folder = document.currentScript.src.replace(/[^/]*$/, "");

Gallery.indexLoaded = (index) => {
  Gallery.root = index.root;
  Gallery.hours = new Map(Object.entries(index.hours));
  Gallery.start(index);
};

// Called by an hour's script.
Gallery.hourLoaded = (data) => {
  const segments = data.segments.map((row, number) => Gallery.segment(data, row, number));
  Gallery.arrivals.get(data.hour)?.(segments);
  Gallery.arrivals.delete(data.hour);
};

Gallery.segment = (data, [sinceHour, rest, factsNumber, gap, partial, low, high], number) => {
  const facts = data.facts[factsNumber];
  const stem = data.prefix + rest;
  const start = Date.parse(data.hour + ":00:00Z") + sinceHour;
  return {
    hour: data.hour,
    number,
    stem,
    start,
    iso: new Date(start).toISOString(),
    facts,
    gap,
    partial,
    low,
    high,
    picture: facts.picture === undefined ? null : stem + facts.picture,
    clip: facts.clip === undefined ? null : stem + facts.clip,
    time: Gallery.time(start),
  };
};

// 15:10:05, or 15:10:05.250 where it is no whole second.
Gallery.time = (start) => {
  const text = new Date(start).toISOString().slice(11, 23);
  return text.endsWith(".000") ? text.slice(0, 8) : text;
};

// A promise of an hour's segments. One that could not be loaded is asked for again the next time.
Gallery.segmentsOf = (hour) => {
  if (!Gallery.loaded.has(hour)) {
    const promise = new Promise((resolve, reject) => {
      Gallery.arrivals.set(hour, resolve);
      const script = Gallery.element("script", { src: `${Gallery.folder}hours/${hour}.js` });
      script.onload = () => {
        script.remove();
        if (Gallery.arrivals.has(hour)) reject(new Error(`hours/${hour}.js holds no segments`));
      };
      script.onerror = () => {
        script.remove();
        reject(new Error(`hours/${hour}.js could not be loaded`));
      };
      document.head.append(script);
    });
    promise.catch(() => Gallery.loaded.delete(hour));
    Gallery.loaded.set(hour, promise);
  }
  return Gallery.loaded.get(hour);
};

Gallery.days = () => [...new Set([...Gallery.hours.keys()].map((hour) => hour.slice(0, 10)))].sort();

Gallery.hoursOf = (day) => [...Gallery.hours.keys()].filter((hour) => hour.startsWith(day)).sort();
