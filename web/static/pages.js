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

// Times of day in the reader's own time zone.
for (const time of document.querySelectorAll("time[data-local]")) {
  const at = new Date(time.dateTime);
  time.textContent = time.dataset.local === "time"
    ? at.toLocaleTimeString(lang, { hour: "numeric", minute: "2-digit" })
    : at.toLocaleString(lang, { dateStyle: "medium", timeStyle: "medium" });
}

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
