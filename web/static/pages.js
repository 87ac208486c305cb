// Improvements for browsers that run scripts. Every page works without: what is
// useful only here is hidden in the page and shown by us.
"use strict";

const lang = document.documentElement.lang;

// Buttons that show and hide what is typed into a password field.
for (const button of document.querySelectorAll("button[data-reveals]")) {
  const field = document.getElementById(button.dataset.reveals);
  const reveal = (shown) => {
    field.type = shown ? "text" : "password";
    button.textContent = shown ? button.dataset.hide : button.dataset.show;
    button.setAttribute("aria-label", shown ? button.dataset.hideLabel : button.dataset.showLabel);
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    reveal(field.type === "password");
    field.focus();
  });
  // A password must not be sent, kept or come back from the history as a text.
  field.form.addEventListener("submit", () => reveal(false));
  window.addEventListener("pagehide", () => reveal(false));
}

// Times in the reader's own time zone and words: of the whole page, and of what
// is put into it later.
const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
const ago = (time) => {
  const seconds = Math.max(0, (Date.now() - new Date(time.dateTime)) / 1000);
  const [unit, size] = units.find(([, size]) => seconds >= size) ?? ["", 0];
  return unit === "" ? time.dataset.now
    : new Intl.RelativeTimeFormat(lang, { numeric: "always" }).format(-Math.floor(seconds / size), unit);
};
const localise = (root) => {
  for (const time of root.querySelectorAll("time[data-local]")) {
    const at = new Date(time.dateTime);
    const shown = at.toLocaleString(lang, { dateStyle: "medium", timeStyle: time.dataset.local === "moment" ? "medium" : "short" });
    switch (time.dataset.local) {
      case "time":
        time.textContent = at.toLocaleTimeString(lang, { hour: "numeric", minute: "2-digit" });
        break;
      case "ago":
        time.textContent = ago(time);
        time.title = shown;
        break;
      default:
        time.textContent = shown;
    }
  }
};
localise(document);

// Waits that run out. The words come from the page.
for (const timer of document.querySelectorAll("[role=timer][data-left]")) {
  const ends = performance.now() + Number(timer.dataset.left) * 1000;
  const rules = new Intl.PluralRules(lang);
  const words = (unit, n) => {
    const capital = unit + rules.select(n)[0].toUpperCase() + rules.select(n).slice(1);
    return timer.dataset[capital].replaceAll("{n}", String(n));
  };
  const ticking = setInterval(() => {
    const left = Math.ceil((ends - performance.now()) / 1000);
    if (left <= 0) {
      clearInterval(ticking);
      const notice = timer.closest("[data-over]");
      notice.textContent = notice.dataset.over;
      notice.classList.replace("notice-bad", "notice-good");
    } else if (left < 60) {
      timer.textContent = words("seconds", left);
    } else if (left <= 59 * 60) {
      timer.textContent = words("minutes", Math.ceil(left / 60));
    } else {
      timer.textContent = words("hours", Math.ceil(left / 3600));
    }
  }, 1000);
}

// The way on after a sign-out: when the applications' frames have loaded, or
// don't.
for (const link of document.querySelectorAll("a[data-continues]")) {
  let left = false;
  const leave = () => {
    if (!left) location.replace(link.href);
    left = true;
  };
  window.addEventListener("load", leave);
  setTimeout(leave, Number(link.dataset.continues) * 1000);
}

// Buttons that copy a text. Clipboards are for secure contexts only.
for (const button of document.querySelectorAll("button[data-copies]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  const label = button.textContent;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copies).textContent);
    } catch {
      return; // it can still be selected
    }
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// A list that keeps itself up to date: the server tells when it has changed, and
// the page is fetched once more for its list.
const list = document.querySelector("[data-events]");
if (list) {
  setInterval(() => {
    for (const time of list.querySelectorAll("time[data-local=ago]")) time.textContent = ago(time);
  }, 30000);

  // What has the focus, or is open, by where it is in the list.
  const key = (element) => element.closest("[data-key]")?.dataset.key ?? "";
  const same = (element) => (other) => key(other) === key(element) && (element.dataset.key || other.textContent === element.textContent);
  const update = async () => {
    const answer = await fetch(location.pathname, { credentials: "same-origin", cache: "no-store", redirect: "manual" });
    if (answer.type === "opaqueredirect") location.reload(); // it leads to the sign-in page
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(list.id);
    if (!fresh) throw new Error("no list");
    localise(fresh);
    for (const open of list.querySelectorAll("details[open]")) {
      const again = [...fresh.querySelectorAll("details")].find(same(open));
      if (again) again.open = true;
    }
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    const again = focused && [...fresh.querySelectorAll(focused.tagName)].find(same(focused));
    list.dataset.mark = fresh.dataset.mark;
    list.replaceChildren(...fresh.childNodes);
    again?.focus({ preventScroll: true });
    document.getElementById("news").textContent = list.dataset.news;
  };

  let source;
  const watch = () => {
    source?.close();
    if (document.hidden) return;
    source = new EventSource(list.dataset.events + "?mark=" + encodeURIComponent(list.dataset.mark));
    let updating = Promise.resolve();
    source.addEventListener("change", () => {
      // One after the other. Where one fails, the server is asked what has changed since the last.
      updating = updating.then(update).catch(() => { setTimeout(watch, 5000); });
    });
    source.addEventListener("end", () => {
      source.close();
      location.reload();
    });
    source.addEventListener("error", () => {
      // It comes again by itself, unless it was refused; then it is too often open.
      if (source.readyState === EventSource.CLOSED) setTimeout(watch, 60000);
    });
  };
  watch();
  // Over HTTP/1.1 a browser has six connections to us: pages out of sight keep none.
  document.addEventListener("visibilitychange", () => document.hidden ? source?.close() : watch());
  // A page that comes back from the browser's memory may be of long ago.
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
}

// Fields that suggest people as one types (WAI-ARIA combobox with a list).
for (const field of document.querySelectorAll("input[data-suggests]")) {
  const words = field.dataset;
  const list = document.createElement("ul");
  const status = document.createElement("p");
  list.id = field.id + "-list";
  list.className = "suggestions";
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", words.listLabel);
  status.className = "hidden";
  status.setAttribute("role", "status");
  field.parentElement.append(list, status);
  field.setAttribute("role", "combobox");
  field.setAttribute("aria-autocomplete", "list");
  field.setAttribute("aria-controls", list.id);
  field.setAttribute("aria-expanded", "false");
  const rules = new Intl.PluralRules(lang);
  let pause, asked, chosen = -1;

  const choose = (i) => {
    chosen = i;
    for (const [n, option] of [...list.children].entries()) {
      option.setAttribute("aria-selected", String(n === i));
      if (n === i) option.scrollIntoView({ block: "nearest" });
    }
    if (i < 0) field.removeAttribute("aria-activedescendant");
    else field.setAttribute("aria-activedescendant", list.children[i].id);
  };
  const open = (shown) => {
    list.hidden = !shown;
    field.setAttribute("aria-expanded", String(shown));
    choose(-1);
  };
  const part = (name, text) => {
    const span = document.createElement("bdi");
    span.className = name;
    span.textContent = text;
    return span;
  };
  const show = (people, more) => {
    const was = chosen < 0 ? "" : list.children[chosen].dataset.url;
    list.replaceChildren(...people.map((person, i) => {
      const option = document.createElement("li");
      option.id = list.id + "-" + i;
      option.setAttribute("role", "option");
      option.dataset.url = person.url;
      option.append(part("suggestion-name", person.username));
      const more = [person.name, person.email].filter((text) => text && text !== person.username).join(" · ");
      if (more) option.append(part("suggestion-more", more));
      if (person.locked) option.append(part("badge badge-bad", words.locked));
      return option;
    }));
    if (more) list.dataset.more = words.more;
    else delete list.dataset.more;
    open(people.length > 0);
    choose(people.findIndex((person) => person.url === was)); // a late answer must not take the choice away
    const form = rules.select(people.length);
    status.textContent = people.length === 0 ? words.none
      : words["found" + form[0].toUpperCase() + form.slice(1)].replaceAll("{n}", String(people.length)) + (more ? ". " + words.more : "");
  };
  const ask = async () => {
    const typed = field.value.trim();
    asked?.abort();
    if (!typed) {
      open(false);
      status.textContent = "";
      return;
    }
    asked = new AbortController();
    try {
      const answer = await fetch(words.suggests + "?q=" + encodeURIComponent(typed), { signal: asked.signal, redirect: "manual", headers: { Accept: "application/json" } });
      if (answer.type === "opaqueredirect") {
        field.form.submit(); // by way of the sign-in page, and then it finds the same
        return;
      }
      if (!answer.ok) throw new Error("no answer");
      const found = await answer.json();
      show(found.users, found.more);
    } catch (fault) {
      if (fault.name !== "AbortError") open(false); // the form still works
    }
  };
  const go = (option) => { location.assign(option.dataset.url); };

  field.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(ask, 200);
  });
  field.addEventListener("keydown", (event) => {
    const n = list.hidden ? 0 : list.children.length;
    if (event.key === "Escape" && n > 0) {
      event.preventDefault(); // it would empty the field
      open(false);
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (n === 0) ask();
      // One place between the last and the first is the field itself.
      else choose((chosen + 1 + (event.key === "ArrowDown" ? 1 : n)) % (n + 1) - 1);
    }
  });
  field.form.addEventListener("submit", (event) => { // by Enter: what is chosen, and not what is typed
    if (chosen < 0) return;
    event.preventDefault();
    go(list.children[chosen]);
  });
  field.addEventListener("blur", () => open(false));
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (option) go(option);
  });
}

// A box that ticks all boxes of its table, and buttons that need one ticked.
for (const all of document.querySelectorAll("input[data-ticks]")) {
  const boxes = [...document.querySelectorAll("input[type=checkbox][name=" + CSS.escape(all.dataset.ticks) + "]")];
  const count = all.form.querySelector("[data-counts]");
  const settle = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked > 0 && ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
    if (count) count.textContent = ticked > 0 ? "(" + ticked + ")" : "";
  };
  all.closest("[hidden]").hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    settle();
  });
  for (const box of boxes) box.addEventListener("change", settle);
  window.addEventListener("pageshow", settle); // the history may have ticked some
  settle();
}
