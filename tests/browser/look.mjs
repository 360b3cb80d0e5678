// Looks at reports in Chromium and prints, as JSON, what it saw. Judges nothing: the tests do.
// usage: node look.mjs CHROMIUM TASKS
// TASKS is a JSON file: [{name, file, media, living, thresholds: [[rule, value]], clicks: [[link, ...]]}, ...]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [, , executablePath, tasks] = process.argv;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
const WIDTHS = [390, 794, 1366];
const MEDIA = {
  light: { media: "screen", colorScheme: "light" },
  dark: { media: "screen", colorScheme: "dark" },
  print: { media: "print", colorScheme: "light" },
};

async function opened(address, seen, options = {}) {
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

// Of elements of one shape in places of one kind (tags, classes and states alike) all but the first are
// taken away: axe judges each kind of row once instead of a hundred times.
function oneOfAKind() {
  const REPEATED = new Set(["TR", "TD", "LI", "ARTICLE", "FIGURE", "DIV", "P", "DETAILS", "TABLE", "A", "DT", "DD"]);
  const STATES = ["class", "role", "open", "type", "hidden", "tabindex", "scope", "lang"];
  const met = new Set();
  const shape = (one, place) => {
    const own = [one.tagName, ...STATES.map((name) => one.getAttribute(name) ?? "")].join("|");
    const within = `${place}>${own}`;
    const parts = [];
    for (const child of [...one.children]) {
      const found = shape(child, within);
      if (REPEATED.has(child.tagName) && met.has(`${within}>${found}`)) child.remove();
      else parts.push(found);
      met.add(`${within}>${found}`);
    }
    return `${own}(${parts.join(",")})`;
  };
  shape(document.body, "");
}

async function violations(page) {
  const values = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
  const found = await page.evaluate(
    (tags) => window.axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] }),
    values,
  );
  return found.violations.map((one) =>
    `${one.id}: ${one.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")} (${one.nodes.length})`);
}

// Everything that can be used, and what Tab alone reaches of it.
async function keyboard(page, seen) {
  const wanted = await page.evaluate(() => {
    const shown = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
      .filter((one) => one.checkVisibility({ visibilityProperty: true }));
    shown.forEach((one, k) => one.setAttribute("data-stop", k));
    document.addEventListener("focusin", (e) => e.target.setAttribute("data-reached", ""));
    return shown.length;
  });
  for (let k = 0; k < wanted + 5; k += 1) await page.keyboard.press("Tab");
  seen.stops = wanted;
  seen.unreached = await page.evaluate(() =>
    [...document.querySelectorAll("[data-stop]:not([data-reached])")].map((one) => one.outerHTML.slice(0, 120)));
}

async function theme(page, seen) {
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.focus("button.theme");
  const before = await paper();
  await page.keyboard.press("Enter");
  seen.theme = [before, await paper()];
  await page.keyboard.press("Enter");
}

async function living(page, seen, thresholds) {
  seen.words = JSON.parse((await page.getAttribute("body", "data-words")) || "{}");
  seen.rejudged = await page.evaluate((cases) => cases.map(([rule, value]) => {
    const place = [...document.querySelectorAll("article[data-rule]")].find((one) => one.dataset.rule === rule);
    const input = place.querySelector("input[type=number]");
    input.value = String(value);
    input.dispatchEvent(new Event("input"));
    return place.querySelector(".what-if output").textContent;
  }), thresholds);
  const rules = page.locator("article[data-rule]");
  seen.recorded = await rules.evaluateAll((all) => all.map((one) => one.dataset.status));
  const search = page.locator("input[type=search]").first();
  if (await search.count()) {
    const first = await rules.first().getAttribute("data-rule");
    await search.fill(first);
    seen.search = {
      asked: first,
      shown: await rules.evaluateAll((all) => all.filter((one) => !one.hidden).map((one) => one.dataset.rule)),
    };
    await search.fill("");
  }
  // Every budget's slider at all of its stops: what it says there.
  seen.budgets = await page.evaluate(() => Object.fromEntries([...document.querySelectorAll(".budget")].map((place) => {
    const slider = place.querySelector("input[type=range]");
    const told = [...Array(Number(slider.max) + 1).keys()].map((to) => {
      slider.value = to;
      slider.dispatchEvent(new Event("input"));
      return place.querySelector("output").textContent;
    });
    return [place.querySelector("a").textContent, told];
  })));
  await page.evaluate(() => {
    const target = document.querySelector("details.rows tbody tr") || document.querySelector("tr[data-requirement]");
    if (target) { location.hash = target.id; }
  });
  await page.waitForTimeout(50);
  seen.unfolded = await page.evaluate(() => {
    const target = document.getElementById(location.hash.slice(1));
    return !target || target.checkVisibility();
  });
}

// From the top, links by their words: what stands where they lead.
async function clicked(page, links) {
  await page.evaluate(() => { location.hash = ""; window.scrollTo(0, 0); });
  let place = "";
  for (const words of links) {
    const found = await page.evaluateHandle(([text, within]) => {
      const clean = (one) => one.textContent.replace(/\s+/g, " ").trim();
      const inside = within ? document.getElementById(within) : document;
      return [...inside.querySelectorAll("a[href^='#'], summary")].find((one) => clean(one).includes(text)) || null;
    }, [words, place]);
    const element = found.asElement();
    if (!element) return { missing: words };
    const fold = await element.evaluate((one) => one.tagName === "SUMMARY");
    await element.scrollIntoViewIfNeeded();
    await element.click();
    if (!fold) place = await page.evaluate(() => decodeURIComponent(location.hash.slice(1)));
  }
  return page.evaluate((id) => {
    const target = document.getElementById(id);
    return { id, text: target.innerText, visible: target.checkVisibility() };
  }, place);
}

async function looked(task) {
  const address = pathToFileURL(task.file).href;
  const seen = { errors: [], requests: [], violations: {}, overflow: {} };
  const page = await opened(address, seen);
  if (task.living) {
    await keyboard(page, seen);
    await theme(page, seen);
    await living(page, seen, task.thresholds || []);
  }
  seen.answers = [];
  for (const links of task.clicks || []) seen.answers.push(await clicked(page, links));
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    seen.overflow[width] = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  }
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  await page.evaluate(oneOfAKind);
  await page.evaluate(axe);
  for (const name of task.media) {
    await page.emulateMedia(MEDIA[name]);
    seen.violations[name] = await violations(page);
  }
  await page.context().close();
  if (task.living) {
    const plain = await opened(address, seen, { javaScriptEnabled: false });
    seen.plain = {
      text: (await plain.locator("main").innerText()).length,
      hidden: await plain.locator("article[data-rule][hidden]").count(),
      controls: await plain.locator("main input, main button").count(),
    };
    await plain.emulateMedia({ media: "print" });
    const pdf = (await plain.pdf({ preferCSSPageSize: true })).toString("latin1");
    seen.paper = {
      boxes: [...new Set(pdf.match(/\/MediaBox\s*\[[^\]]*\]/g) || [])],
      pages: (pdf.match(/\/Type\s*\/Page\b/g) || []).length,
    };
    await plain.context().close();
  }
  return seen;
}

const found = {};
for (const task of JSON.parse(readFileSync(tasks, "utf8"))) found[task.name] = await looked(task);
await browser.close();
console.log(JSON.stringify(found));
