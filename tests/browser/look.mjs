// Looks at one report in Chromium and prints, as JSON, what it saw. Judges nothing: the tests do.
// usage: node look.mjs CHROMIUM FILE [THRESHOLDS], where THRESHOLDS is JSON: [[rule id, value], ...]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [, , executablePath, file, thresholds = "[]"] = process.argv;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const address = pathToFileURL(file).href;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const seen = { errors: [], requests: [], violations: {}, overflow: {} };

async function opened(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1366, height: 900 }, ...options });
  const page = await context.newPage();
  page.on("console", (m) => { if (["error", "warning"].includes(m.type())) seen.errors.push(m.text()); });
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (one) => {
    const url = one.url();
    if (url.split("#")[0] !== address && !url.startsWith("data:")) seen.requests.push(url);
  });
  await page.goto(address);
  return page;
}

async function violations(page) {
  await page.evaluate(axe);
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
  const found = await page.evaluate(
    (values) => window.axe.run(document, { runOnly: { type: "tag", values }, resultTypes: ["violations"] }),
    tags,
  );
  return found.violations.map((one) =>
    `${one.id}: ${one.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")} (${one.nodes.length})`);
}

for (const [name, media] of Object.entries({
  light: { media: "screen", colorScheme: "light" },
  dark: { media: "screen", colorScheme: "dark" },
  print: { media: "print", colorScheme: "light" },
})) {
  const page = await opened();
  await page.emulateMedia(media);
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  seen.violations[name] = await violations(page);
  await page.context().close();
}

for (const width of [390, 794, 1366]) {
  const page = await opened({ viewport: { width, height: 900 } });
  seen.overflow[width] = await page.evaluate(
    () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await page.context().close();
}

const page = await opened();

// Everything that can be used, and what Tab alone reaches of it.
const wanted = await page.evaluate(() => {
  const shown = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }));
  shown.forEach((one, k) => one.setAttribute("data-stop", k));
  return shown.length;
});
await page.evaluate(() => document.addEventListener("focusin", (e) => e.target.setAttribute("data-reached", "")));
for (let k = 0; k < wanted + 5; k += 1) await page.keyboard.press("Tab");
seen.stops = wanted;
seen.unreached = await page.evaluate(() =>
  [...document.querySelectorAll("[data-stop]:not([data-reached])")].map((one) => one.outerHTML.slice(0, 120)));

// The theme, by keyboard.
const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
if (await page.locator("button.theme").count()) {
  await page.focus("button.theme");
  const before = await paper();
  await page.keyboard.press("Enter");
  seen.theme = [before, await paper()];
}

// Thresholds that are tried out.
seen.words = JSON.parse((await page.getAttribute("body", "data-words")) || "{}");
seen.rejudged = await page.evaluate((cases) => cases.map(([rule, value]) => {
  const place = [...document.querySelectorAll("article[data-rule]")].find((one) => one.dataset.rule === rule);
  const input = place.querySelector("input[type=number]");
  input.value = String(value);
  input.dispatchEvent(new Event("input"));
  return place.querySelector(".what-if output").textContent;
}), JSON.parse(thresholds));
seen.turned = await page.locator(".tools output.told").nth(0).textContent().catch(() => "");
seen.recorded = await page.locator("article[data-rule]").evaluateAll(
  (all) => all.map((one) => one.dataset.status));

// The search over findings.
const search = page.locator("input[type=search]").first();
if (await search.count()) {
  const rules = page.locator("article[data-rule]");
  const first = await rules.first().getAttribute("data-rule");
  await search.fill(first);
  seen.search = {
    asked: first,
    shown: await rules.evaluateAll((all) => all.filter((one) => !one.hidden).map((one) => one.dataset.rule)),
  };
  await search.fill("");
}

// Budgets.
seen.budgets = [];
for (const place of await page.locator(".budget").all()) {
  const slider = place.locator("input[type=range]");
  const told = [];
  for (const value of [200, 100, 0]) {
    await slider.evaluate((one, to) => { one.value = to; one.dispatchEvent(new Event("input")); }, value);
    told.push(await place.locator("output").textContent());
  }
  seen.budgets.push(told);
}

// A link into something folded.
await page.evaluate(() => {
  const target = document.querySelector("details.rows tbody tr") || document.querySelector("tr[data-requirement]");
  if (target) { location.hash = target.id; }
});
await page.waitForTimeout(50);
seen.unfolded = await page.evaluate(() => {
  const target = document.getElementById(location.hash.slice(1));
  return !target || target.checkVisibility();
});
await page.context().close();

// Without JavaScript.
const plain = await opened({ javaScriptEnabled: false });
seen.plain = {
  text: (await plain.locator("main").innerText()).length,
  hidden: await plain.locator("article[data-rule][hidden]").count(),
  controls: await plain.locator("main input, main button").count(),
};

// On paper.
await plain.emulateMedia({ media: "print" });
const pdf = (await plain.pdf({ preferCSSPageSize: true })).toString("latin1");
seen.paper = {
  boxes: [...new Set(pdf.match(/\/MediaBox\s*\[[^\]]*\]/g) || [])],
  pages: (pdf.match(/\/Type\s*\/Page\b/g) || []).length,
};
await browser.close();
console.log(JSON.stringify(seen));
