// Tries to answer for the shop, to act for the shopper, and to leave something behind.
const tried = {
  worker: async () => navigator.serviceWorker.register("/hostile/worker.js", { scope: "/" }),
  cart: async () => {
    const answer = await fetch("/en/cart/count", { credentials: "include" });
    if (!answer.ok) throw new Error(answer.status);
  },
  storage: async () => localStorage.setItem("left", "behind"),
  cookie: async () => {
    document.cookie = "left=behind";
    if (!document.cookie.includes("left")) throw new Error("not kept");
  },
  imported: async () => import("/hostile/worker.js"),
};
const done = [];
for (const [name, does] of Object.entries(tried)) {
  await does().then(() => done.push(name), () => {});
}
document.title = `done: ${done.join(" ")}`;
