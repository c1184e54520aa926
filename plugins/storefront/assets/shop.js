// Everything works without this: it saves a click here and there.
for (const badge of document.querySelectorAll("[data-count]")) {
  fetch(badge.dataset.count).then(async (answer) => {
    const count = answer.ok ? await answer.text() : "0";
    badge.textContent = count;
    badge.hidden = count === "0";
  }, () => {});
}
for (const select of document.querySelectorAll("select[data-change]")) {
  const button = select.form.querySelector("button[name=change]");
  button.hidden = true;
  select.addEventListener("change", () => select.form.requestSubmit(button));
}
for (const choices of document.querySelectorAll("fieldset[data-refresh]")) {
  const button = choices.form.querySelector("button[name=change]");
  button.hidden = true;
  let turn = 0;
  choices.addEventListener("change", async () => {
    const own = ++turn;
    const fields = new URLSearchParams(new FormData(choices.form));
    fields.set(button.name, button.value);
    const answer = await fetch(choices.form.action, { method: "POST", body: fields }).catch(() => null);
    const text = answer?.ok ? await answer.text() : "";
    const aside = new DOMParser().parseFromString(text, "text/html").querySelector("aside");
    // Another one may have been chosen meanwhile.
    if (aside && own === turn) document.querySelector("aside").replaceWith(aside);
  });
}
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  const shown = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  if (!Number.isNaN(at.valueOf())) time.textContent = shown.format(at);
}
const find = document.querySelector("[data-suggest]");
let asked = "";
find?.addEventListener("input", async () => {
  const text = find.value.trim();
  if (text === "" || text === asked) return;
  asked = text;
  const answer = await fetch(`${find.dataset.suggest}?q=${encodeURIComponent(text)}`).catch(() => null);
  // Another letter may have come meanwhile.
  if (!answer?.ok || text !== asked) return;
  find.list.replaceChildren(...(await answer.json()).map((word) => new Option(word, word)));
});
