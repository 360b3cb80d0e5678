// The living parts of a report: nothing here is needed to read it, and nothing leaves the page.
(function () {
  "use strict";
  var root = document.documentElement;
  var words = JSON.parse(document.body.dataset.words);
  var RANK = ["fail", "not_assessed", "inconclusive", "pass"];
  root.classList.add("living");

  function make(tag, attributes, children) {
    var element = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) {
      element.setAttribute(name, attributes[name]);
    });
    (children || []).forEach(function (child) { element.append(child); });
    return element;
  }

  // -- light and dark ---------------------------------------------------------------------------
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var theme = make("button", { type: "button", class: "theme" }, [words.theme]);
  function isDark() { return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches; }
  function tell() { theme.setAttribute("aria-pressed", String(isDark())); }
  theme.addEventListener("click", function () {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  dark.addEventListener("change", tell);
  tell();
  document.getElementById("top").prepend(theme);

  // -- search and filter ------------------------------------------------------------------------
  var serial = 0;
  function searchable(place, rows, label, statuses) {
    if (rows.length < 2) { return; }
    var id = "search-" + (serial += 1);
    var input = make("input", { type: "search", id: id, autocomplete: "off" });
    var told = make("output", { for: id, class: "told" });
    var boxes = statuses.map(function (status) {
      var box = make("input", { type: "checkbox", value: status });
      box.checked = true;
      return box;
    });
    var texts = rows.map(function (row) { return row.textContent.toLowerCase(); });
    function apply() {
      var asked = input.value.trim().toLowerCase();
      var shut = boxes.filter(function (box) { return !box.checked; })
        .map(function (box) { return box.value; });
      var left = 0;
      rows.forEach(function (row, k) {
        var shown = texts[k].includes(asked) && !shut.includes(row.dataset.status);
        row.hidden = !shown;
        left += shown ? 1 : 0;
      });
      told.value = left + " / " + rows.length;
      if (asked) {
        rows.forEach(function (row) { if (!row.hidden) { opened(row); } });
      }
    }
    input.addEventListener("input", apply);
    boxes.forEach(function (box) { box.addEventListener("change", apply); });
    var bar = make("div", { class: "tools", role: "search", "aria-label": label },
      [make("label", { for: id }, [label]), input]);
    boxes.forEach(function (box) { bar.append(make("label", {}, [box, words[box.value]])); });
    bar.append(told);
    place.before(bar);
    apply();
  }
  function opened(element) {
    for (var at = element; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") { at.open = true; }
    }
  }
  function all(selector, within) { return Array.from((within || document).querySelectorAll(selector)); }

  var rules = all("article[data-rule]");
  if (rules.length) { searchable(rules[0], rules, words.search_findings, RANK); }
  var items = all("[data-requirement]");
  if (items.length) { searchable(document.querySelector(".finding-group"), items, words.search_items, []); }
  all("details.rows").forEach(function (details) {
    var scroll = details.querySelector(".scroll");
    if (scroll) { searchable(scroll, all("tbody tr", details), words.search_rows, []); }
  });

  // A link may lead into something that is folded.
  function unfold() {
    var target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) {
      target.hidden = false;
      opened(target);
      if (target.dataset.findingStatus) { all("details", target).forEach(opened); }
      target.scrollIntoView();
    }
  }
  window.addEventListener("hashchange", unfold);
  unfold();

  // -- thresholds: the judge's rule, applied to the stored intervals ------------------------------
  function opinion(side, threshold, low, high) {
    if (side === "least" ? low >= threshold : high <= threshold) { return "pass"; }
    if (side === "least" ? high < threshold : low > threshold) { return "fail"; }
    return "inconclusive";
  }
  function verdict(rule, threshold) {
    var found = rule.seen.map(function (one) {
      if (one[3] || one[2] < rule.level - 1e-9) { return "inconclusive"; }
      return opinion(rule.side, threshold, one[0], one[1]);
    });
    if (rule.undefined || !found.length) { found.push("not_assessed"); }
    return RANK.find(function (status) { return found.includes(status); });
  }
  var fields = [];
  var summary = make("output", { class: "told" });
  function compare() {
    var turned = fields.filter(function (one) { return one.turned; }).length;
    summary.value = turned + " / " + fields.length + " " + words.turned;
  }
  rules.forEach(function (article) {
    var told_of = article.dataset.judged && JSON.parse(article.dataset.judged);
    if (!told_of || !told_of[4].length) { return; }
    var rule = {
      side: told_of[0] ? "least" : "most", threshold: told_of[1], level: told_of[2],
      undefined: told_of[3], seen: told_of[4],
    };
    var id = "threshold-" + fields.length;
    var input = make("input", { type: "number", step: "any", id: id, value: rule.threshold });
    var told = make("output", { for: id, class: "told" });
    var field = { turned: false, reset: function () { input.value = rule.threshold; apply(); } };
    function apply() {
      var asked = input.value.trim() === "" ? rule.threshold : Number(input.value);
      var now = verdict(rule, asked);
      field.turned = now !== article.dataset.status;
      article.classList.toggle("is-turned", field.turned);
      told.value = asked === rule.threshold ? words.as_recorded
        : words.would_be + " " + words[now] + " (" + words.recorded + " " + words[article.dataset.status] + ")";
      compare();
    }
    input.addEventListener("input", apply);
    fields.push(field);
    article.querySelector(".rule-body").append(make("p", { class: "what-if" }, [
      make("label", { for: id }, [words.threshold + " " + (rule.side === "least" ? "\u2265" : "\u2264") + " "]),
      input, told]));
    apply();
  });
  if (fields.length) {
    var reset = make("button", { type: "button" }, [words.reset]);
    reset.addEventListener("click", function () { fields.forEach(function (one) { one.reset(); }); });
    rules[0].before(make("div", { class: "tools", role: "group", "aria-label": words.what_if },
      [make("span", {}, [words.what_if_told]), reset, summary]));
    compare();
  }

  // -- budgets: what the stored rows say at any budget ---------------------------------------------
  function wilson(k, n, z) {
    var p = k / n, zz = z * z / n, centre = (p + zz / 2) / (1 + zz);
    var half = z * Math.sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz);
    return [Math.max(0, centre - half), Math.min(1, centre + half)];
  }
  all(".budget").forEach(function (place, k) {
    var data = JSON.parse(place.dataset.budget), top = Number(place.dataset.top), id = "budget-" + k;
    var input = make("input", { type: "range", id: id, min: 0, max: 200, step: 1, value: 200 });
    var told = make("output", { for: id, class: "told" });
    function apply() {
      var budget = top * Number(input.value) / 200, edge = budget * (1 + 1e-5);
      var lost = data.fooled.filter(function (at) { return at <= edge; }).length;
      var left = data.correct - lost;
      var z = data.rules.length ? data.rules[0].z : 1.959964;
      var ends = wilson(left, data.n, z);
      var text = "\u03b5 = " + budget.toPrecision(3) + ": " + (left / data.n).toFixed(3) + " [" +
        ends[0].toFixed(3) + ", " + ends[1].toFixed(3) + "], n = " + data.n;
      data.rules.forEach(function (rule) {
        var here = wilson(left, data.n, rule.z);
        text += "; " + rule.told + ": " + words.would_be + " " +
          words[opinion(rule.side, rule.threshold, here[0], here[1])];
      });
      input.setAttribute("aria-valuetext", text);
      told.value = text;
    }
    input.addEventListener("input", apply);
    place.append(make("p", { class: "what-if" },
      [make("label", { for: id }, [words.budget + " "]), input, told]));
    apply();
  });
})();
