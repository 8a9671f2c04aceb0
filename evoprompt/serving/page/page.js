"use strict";
const find = (id) => document.getElementById(id);
const made = (tag, text, name) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
};
const SVG = "http://www.w3.org/2000/svg";
const drawn = (tag, attributes, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const experts = new Map();
let dimensions = {};

function headers() {
  const token = find("token").value;
  return token ? { "Content-Type": "application/json", Authorization: `Bearer ${token}` } : { "Content-Type": "application/json" };
}

async function loadExperts() {
  const reply = await fetch("v1/experts", { headers: headers() });
  if (reply.status === 401) {
    find("tokenbox").hidden = false;
    say("This server asks for a token.");
    return false;
  }
  if (!reply.ok) throw new Error(`the server says ${reply.status}`);
  const found = await reply.json();
  dimensions = found.dimensions;
  experts.clear();
  const who = find("who"), chosen = who.value;
  who.querySelectorAll("optgroup").forEach((group) => group.remove());
  const group = document.createElement("optgroup");
  group.label = "one expert";
  for (const expert of found.experts) {
    experts.set(expert.name, expert);
    const option = made("option", expert.label);
    option.value = `expert:${expert.name}`;
    group.append(option);
  }
  who.append(group);
  who.value = chosen || "committee";
  find("about").textContent =
    `${found.experts.length} cultural experts over one frozen language model (${found.model}). A router decides who answers.`;
  find("note").textContent = found.model === "pocket"
    ? "The pocket model is a simulator: what it says is no advice and nothing about people." : "";
  return true;
}

function say(text, bad = false) {
  const status = find("status");
  status.textContent = text;
  status.classList.toggle("bad", bad);
}

function profile(expert) {
  const keys = Object.keys(dimensions), height = keys.length * 20 + 4, left = 150, width = 150;
  const shown = keys.map((key) => `${dimensions[key]} ${expert.dimensions[key] ?? "unknown"}, published ${expert.target[key] ?? "none"}`);
  const picture = drawn("svg", { viewBox: `0 0 ${left + width + 30} ${height}`, role: "img", "aria-label": `${expert.label}: ${shown.join("; ")}` });
  const at = (score) => left + Math.max(0, Math.min(100, score)) / 100 * width;
  keys.forEach((key, row) => {
    const y = row * 20 + 12, score = expert.dimensions[key], target = expert.target[key];
    picture.append(drawn("text", { x: 0, y: y + 4 }, dimensions[key]));
    picture.append(drawn("line", { x1: left, x2: left + width, y1: y, y2: y, class: "axis" }));
    if (target !== null && target !== undefined) picture.append(drawn("line", { x1: at(target), x2: at(target), y1: y - 7, y2: y + 7, class: "target" }));
    if (score !== null && score !== undefined) {
      picture.append(drawn("circle", { cx: at(score), cy: y, r: 5, class: "measured" }));
      picture.append(drawn("text", { x: left + width + 10, y: y + 4 }, Math.round(score)));
    }
  });
  return picture;
}

function showCommittee(about) {
  const list = find("voices");
  list.replaceChildren();
  for (const voice of about.voices) {
    const item = document.createElement("li"), heading = made("h3", voice.label);
    if (about.voices.length > 1) heading.append(made("span", `${Math.round(voice.weight * 100)} %`, "share"));
    item.append(heading);
    const sure = voice.probability === undefined ? "" : ` (probability ${voice.probability.toFixed(2)})`;
    const reasons = about.spread ? "" : (voice.reasons || []).join("; ");
    if (reasons || (sure && !about.spread)) item.append(made("p", reasons + sure, "reasons"));
    if (about.panel && about.panel[voice.name]) item.append(made("p", about.panel[voice.name], "said"));
    const expert = experts.get(voice.name);
    if (expert) item.append(profile(expert));
    list.append(item);
  }
  const none = about.voices.length === 1 && about.voices[0].name === "base";
  find("why").textContent = none ? `The base model answered alone: the question ${about.reason || "was put to it"}.`
    : about.spread ? `The question ${about.reason}.` : "";
  find("committee").hidden = none;
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
  }
}

async function ask(event) {
  event.preventDefault();
  const button = find("ask").querySelector("button"), who = find("who").value, began = performance.now();
  const body = {
    model: who === "committee" ? `committee:${find("compose").value}` : who,
    messages: [{ role: "user", content: find("question").value }],
    stream: true,
  };
  if (find("location").value.trim()) body.profile = { location: find("location").value.trim() };
  button.disabled = true;
  find("text").textContent = "";
  find("why").textContent = "";
  find("committee").hidden = true;
  say("Asking…");
  try {
    if (!experts.size && !(await loadExperts())) return;
    const reply = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body) });
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    find("answer").hidden = false;
    for await (const part of events(reply)) {
      if (part.error) throw new Error(part.error.message);
      if (part.evoprompt) showCommittee(part.evoprompt);
      if (part.choices && part.choices.length) find("text").textContent += part.choices[0].delta.content || "";
    }
    say(`Answered in ${((performance.now() - began) / 1000).toFixed(1)} s.`);
    find("answer").focus();
  } catch (error) {
    say(`No answer: ${error.message}`, true);
  } finally {
    button.disabled = false;
  }
}

find("ask").addEventListener("submit", ask);
find("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("ask").requestSubmit();
  }
});
find("token").addEventListener("change", () => loadExperts().then((known) => known && say("")).catch((error) => say(error.message, true)));
loadExperts().catch((error) => say(`The experts cannot be listed: ${error.message}`, true));
