#include "tools/report_page.h"

#include <algorithm>
#include <map>

#include "data/png.h"
#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "tools/html.h"
#include "tools/report_data.h"
#include "tools/report_grid.h"
#include "tools/report_names.h"
#include "tools/report_style.h"
#include "tools/svg_plot.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t max_metrics_bytes = uint64_t{1} << 30;
constexpr size_t max_shown_classes = 24;

std::string percent(double value) {
  return fixed(value, 1) + " %";
}

// "97.2 to 98.1", or what to say when there is nothing to spread.
std::string spread_text(const Values& values, int digits) {
  if (values.size() < 2) return "one seed";
  return concat(fixed(lowest_of(values), digits), " to ", fixed(highest_of(values), digits));
}

// "97.2 · 98.1 · 97.6"; of many seeds the first.
std::string seeds_text(const Values& values) {
  constexpr size_t shown = 10;
  std::string text;
  for (size_t i = 0; i < std::min(values.size(), shown); ++i) {
    text += (i ? " · " : "") + fixed(values[i], 1);
  }
  return values.size() > shown ? text + " …" : text;
}

std::string duration_text(double seconds) {
  if (seconds < 100) return fixed(seconds, seconds < 10 ? 1 : 0) + " s";
  const auto total = static_cast<int64_t>(std::min(seconds, 1e15) + 0.5);
  if (total < 3600) return concat(total / 60, " min ", total % 60, " s");
  return concat(total / 3600, " h ", total / 60 % 60, " min");
}

// A table in a container that scrolls by itself; also with the keyboard.
class ScrollTable {
 public:
  ScrollTable(Html& html, const std::string& label)
      : box_(html.in(
            "div",
            {{"class", "scroll"}, {"role", "region"}, {"tabindex", "0"}, {"aria-label", label}})),
        table_(html.in("table")) {}

 private:
  Html::Scope box_, table_;
};

void column_heads(Html& html, std::initializer_list<std::pair<const char*, const char*>> heads) {
  const Html::Scope head = html.in("thead");
  const Html::Scope row = html.in("tr");
  for (const auto& [label, css_class] : heads) {
    if (*label) html.element("th", {{"scope", "col"}, {"class", css_class}}, label);
  }
}

// "0.41", or "0.41 (0.38 to 0.45)" for several seeds.
void value_cell(Html& html, const Values& values, int digits, const char* unit = "") {
  const Html::Scope cell = html.in("td", {{"class", "num"}});
  if (values.empty()) return html.element("span", {{"class", "soft"}}, "–");
  html.text(fixed(mean_of(values), digits) + unit);
  if (values.size() > 1) html.element("span", {{"class", "sub"}}, spread_text(values, digits));
}

// Headline ------------------------------------------------------------------------------------

void write_tile(Html& html, const ResultRow& row, const char* label) {
  const Html::Scope tile = html.in("div", {{"class", std::string("tile ") + row_tone(row.name)}});
  html.element("span", {{"class", "fine"}}, label);
  html.element("strong", percent(mean_of(row.accuracy)));
  html.element("span", {{"class", "fine"}},
               row.accuracy.size() > 1
                   ? concat(spread_text(row.accuracy, 1), " over ", row.accuracy.size(), " seeds")
                   : "one seed");
}

void write_headline(Html& html, const Report& report) {
  // Always the set of equal size, never the best of several.
  const ResultRow *real = report.row("real"), *fake = report.row("realfake_1x"),
                  *base = report.row("base");
  if (fake && real) {
    const double difference = mean_of(real->accuracy) - mean_of(fake->accuracy);
    const double error = standard_error(mean_of(real->accuracy), real->n_test);
    const Html::Scope lead = html.in("p", {{"class", "lead"}});
    html.text(concat("A classifier trained only on generated pictures recognises ",
                     percent(mean_of(fake->accuracy)), " of ", fake->n_test,
                     " held-out real ones. Trained on as many real pictures it recognises ",
                     percent(mean_of(real->accuracy)), ": ", fixed(std::abs(difference), 1),
                     " points ", difference >= 0 ? "more" : "less",
                     ", where the standard error of one measurement is ", fixed(error, 1), "."));
    if (base) {
      html.text(concat(" Pictures of the base model, not adapted, are worth ",
                       percent(mean_of(base->accuracy)), "."));
    }
  } else if (report.rows.empty()) {
    html.element("p", {{"class", "lead"}}, "This run has measured no accuracy yet.");
  }
  if (!real && !fake && !base) return;
  const Html::Scope tiles = html.in("div", {{"class", "tiles"}});
  if (base) write_tile(html, *base, "Trained on pictures of the base model");
  if (fake) write_tile(html, *fake, "Trained on Real-Fake pictures, 1x");
  if (real) write_tile(html, *real, "Trained on real pictures");
}

// Pictures ------------------------------------------------------------------------------------

// Paints the gaps of a strip in the colour of the card, in shares of its width or height.
std::string gap_gradient(const char* direction, int64_t side, int64_t gap, int64_t length) {
  const double scale = 100.0 / static_cast<double>(length);
  const std::string edge = fixed(static_cast<double>(side) * scale, 4) + "%";
  return concat("repeating-linear-gradient(", direction, ",transparent 0 ", edge, ",var(--card) ",
                edge, " ", fixed(static_cast<double>(side + gap) * scale, 4), "%)");
}

void write_cell(Html& html, const GridColumn& column, const std::string& class_name) {
  const Html::Scope figure = html.in("figure", {{"class", "cell"}});
  html.element("figcaption", column.title);
  const auto at = std::find(column.classes.begin(), column.classes.end(), class_name);
  const auto label = static_cast<size_t>(at - column.classes.begin());
  if (label >= column.cells.size() || column.cells[label].shown == 0) {
    html.element("span", {{"class", "soft"}}, "none");
    return;
  }
  const GridCell& cell = column.cells[label];
  const int64_t full = cell.columns * (column.side + column.gap) - column.gap;
  const Html::Scope strip = html.in(
      "span",
      {{"class", "strip"},
       {"style",
        concat(
            "width:",
            fixed(100.0 * static_cast<double>(cell.strip.width) / static_cast<double>(full), 3),
            "%;--across:", gap_gradient("to right", column.side, column.gap, cell.strip.width),
            ";--down:", gap_gradient("to bottom", column.side, column.gap, cell.strip.height))}});
  html.data_image(encode_png(cell.strip),
                  concat(class_name, ": ", cell.shown, " pictures, ", column.title),
                  cell.strip.width, cell.strip.height);
}

void write_pictures(Html& html, const Report& report, const fs::path& run_folder) {
  if (report.grids.empty()) return;
  std::vector<GridColumn> columns;
  std::vector<std::string> problems, classes;
  for (const GridSource& source : report.grids) {
    GridColumn column = read_grid(run_folder, source);
    if (!column.problem.empty()) {
      problems.push_back(concat(column.title, ": ", column.problem));
      continue;
    }
    for (const std::string& name : column.classes) {
      if (std::find(classes.begin(), classes.end(), name) == classes.end()) classes.push_back(name);
    }
    columns.push_back(std::move(column));
  }
  const Html::Scope section = html.in("section");
  html.element("h2", "The pictures, class by class");
  html.element("p", {{"class", "soft"}},
               "The first of each class in the order of the set; none were chosen.");
  for (const std::string& problem : problems) html.element("p", {{"class", "missing"}}, problem);
  if (columns.empty()) return;
  {
    const Html::Scope grid =
        html.in("div", {{"class", "pictures"}, {"style", concat("--n:", columns.size())}});
    {
      const Html::Scope heads = html.in("div", {{"class", "row heads"}, {"aria-hidden", "true"}});
      html.element("span", {}, "");
      for (const GridColumn& column : columns)
        html.element("span", {{"class", "head"}}, column.title);
    }
    for (size_t i = 0; i < std::min(classes.size(), max_shown_classes); ++i) {
      const Html::Scope row = html.in("div", {{"class", "row"}});
      html.element("span", {{"class", "class"}}, classes[i]);
      for (const GridColumn& column : columns) write_cell(html, column, classes[i]);
    }
  }
  if (classes.size() > max_shown_classes) {
    html.element(
        "p", {{"class", "fine"}},
        concat("The first ", max_shown_classes, " of ", classes.size(), " classes are shown."));
  }
}

// Results -------------------------------------------------------------------------------------

void write_bar(Html& html, const Values& values) {
  const Html::Scope cell = html.in("td");
  const Html::Scope bar = html.in("span", {{"class", "bar"}, {"aria-hidden", "true"}});
  html.element("i", {{"style", concat("width:", fixed(mean_of(values), 2), "%")}});
  if (values.size() < 2) return;
  const double low = lowest_of(values), high = highest_of(values);
  html.element("b",
               {{"style", concat("left:", fixed(low, 2), "%;width:", fixed(high - low, 2), "%")}});
}

void write_result_row(Html& html, const ResultRow& row, bool frechet, bool fidelity) {
  const Html::Scope line = html.in("tr", {{"class", row_tone(row.name)}});
  {
    const Html::Scope name = html.in("th", {{"scope", "row"}});
    const std::string label = row_label(row.name);
    html.text(label.empty() ? row.name : label);
    if (!label.empty()) {
      const Html::Scope sub = html.in("span", {{"class", "sub"}});
      html.element("code", row.name);
    }
  }
  if (row.accuracy.empty()) {
    html.element("td", {{"class", "soft"}, {"colspan", "4"}}, "accuracy not measured");
  } else {
    const double mean = mean_of(row.accuracy);
    html.element("td", {{"class", "num big"}}, fixed(mean, 1));
    write_bar(html, row.accuracy);
    {
      const Html::Scope cell = html.in("td", {{"class", "num"}});
      html.text(spread_text(row.accuracy, 1));
      if (row.accuracy.size() > 1)
        html.element("span", {{"class", "sub"}}, seeds_text(row.accuracy));
    }
    const Html::Scope cell = html.in("td", {{"class", "num"}});
    html.text("± " + fixed(standard_error(mean, row.n_test), 2));
    html.element("span", {{"class", "sub"}}, concat("n = ", row.n_test));
  }
  if (frechet) value_cell(html, row.frechet, 3);
  if (fidelity) value_cell(html, row.fidelity, 1);
}

void write_result_table(Html& html, const Report& report, const std::vector<std::string>& groups,
                        bool frechet, bool fidelity) {
  const ScrollTable table(html, "Accuracy");
  column_heads(html, {{"Trained on", ""},
                      {"Accuracy, %", "num"},
                      {"0 to 100", ""},
                      {"Lowest to highest, each seed", "num"},
                      {"Standard error", "num"},
                      {frechet ? "Fréchet distance" : "", "num"},
                      {fidelity ? "Label fidelity, %" : "", "num"}});
  for (const std::string& group : groups) {
    const Html::Scope body = html.in("tbody");
    if (!group.empty()) {
      const Html::Scope line = html.in("tr", {{"class", "group"}});
      html.element("th",
                   {{"scope", "rowgroup"}, {"colspan", std::to_string(5 + frechet + fidelity)}},
                   group_label(group));
    }
    for (const ResultRow& row : report.rows) {
      if (row.group() == group) write_result_row(html, row, frechet, fidelity);
    }
  }
}

void write_results(Html& html, const Report& report) {
  if (report.rows.empty()) return;
  bool frechet = false, fidelity = false;
  std::vector<std::string> groups = {""};
  for (const ResultRow& row : report.rows) {
    frechet |= !row.frechet.empty();
    fidelity |= !row.fidelity.empty();
    if (std::find(groups.begin(), groups.end(), row.group()) == groups.end())
      groups.push_back(row.group());
  }
  const Html::Scope section = html.in("section");
  html.element("h2", "Accuracy on held-out real pictures");
  html.element("p", {{"class", "soft"}},
               "Classifiers that differ only in what they were trained on; percent correct, mean "
               "over seeds.");
  write_result_table(html, report, groups, frechet, fidelity);
  const Html::Scope p = html.in("p", {{"class", "fine after"}});
  html.text(
      "The bar runs from 0 to 100, the bracket on it from the lowest to the highest seed. Standard "
      "error: what the size of the test set alone gives to one measurement; differences of that "
      "order are noise.");
  if (frechet)
    html.text(
        " Fréchet distance: between generated and real pictures in the features of a classifier; "
        "lower is nearer.");
  if (fidelity)
    html.text(
        " Label fidelity: percent to which a classifier trained on real pictures gives their "
        "intended label.");
}

void write_checks(Html& html, const Report& report) {
  if (report.checks.empty()) return;
  const auto holding = std::count_if(report.checks.begin(), report.checks.end(),
                                     [](const Check& check) { return check.holds; });
  const Html::Scope section = html.in("section");
  html.element("h2", "What was claimed beforehand, and what came out");
  html.element("p", {{"class", "soft"}}, concat(holding, " of ", report.checks.size(), " hold."));
  const ScrollTable table(html, "Claims");
  column_heads(html, {{"Result", ""}, {"Claim, and what was measured", ""}});
  const Html::Scope body = html.in("tbody");
  for (const Check& check : report.checks) {
    const Html::Scope row = html.in("tr");
    html.element("td", {{"class", check.holds ? "mark yes" : "mark no"}},
                 check.holds ? "✓ holds" : "✗ does not hold");
    const Html::Scope claim = html.in("th", {{"scope", "row"}});
    html.text(check.claim);
    html.element("span", {{"class", "sub"}}, check.measured);
  }
}

void write_privacy(Html& html, const Report& report) {
  if (report.privacy.empty()) return;
  const Html::Scope section = html.in("section");
  html.element("h2", "Are they copies?");
  html.element("p", {{"class", "soft"}},
               "Median distances between pictures, pixel by pixel. Each generated picture is "
               "compared with the real "
               "picture it was started from "
               "and with the nearest other real picture. The measure for both is how near real "
               "pictures lie to each "
               "other: generated ones much nearer than that would be copies. The more often the "
               "own source is the "
               "nearest of all, the easier a picture can be traced back.");
  const ScrollTable table(html, "Privacy");
  column_heads(html, {{"Generated set", ""},
                      {"To its own source", "num"},
                      {"To the nearest other", "num"},
                      {"Own source is nearest", "num"},
                      {"Real to nearest real", "num"}});
  const Html::Scope body = html.in("tbody");
  for (const PrivacyRow& row : report.privacy) {
    const Html::Scope line = html.in("tr");
    const std::string label = row_label(row.name);
    html.element("th", {{"scope", "row"}}, label.empty() ? row.name : label);
    value_cell(html, row.own_source_median, 2);
    value_cell(html, row.nearest_other_median, 2);
    value_cell(html, row.own_is_nearest_percent, 1, " %");
    value_cell(html, row.real_real_median, 2);
  }
}

// Curves --------------------------------------------------------------------------------------

Curve read_curve(const fs::path& run_folder, const CurveSource& source) {
  Curve curve;
  curve.name = !source.label.empty()  ? source.label
               : source.stage.empty() ? source.key
                                      : source.stage + " " + source.key;
  const fs::path file = run_folder / source.file;
  int64_t number = 0;
  for (const std::string& line : read_whole_lines(file, max_metrics_bytes)) {
    ++number;
    if (line.empty()) continue;
    const std::string where = concat(printable(file.string()), ": line ", number);
    const Json object = parse_json(line, where);
    const JsonReader json(object, where);
    if (!source.stage.empty() && json.text_or("stage", "") != source.stage) continue;
    if (!json.has(source.key) || !json.has("step")) continue;
    const double step = json.number("step"), value = json.number(source.key);
    if (!curve.x.empty() && step <= curve.x.back()) continue;  // a resumed run logs a step again
    curve.x.push_back(step);
    curve.y.push_back(value);
  }
  if (curve.x.empty()) {
    throw InputError(concat(printable(file.string()), ": found no ", printable(source.key),
                            " of stage '", printable(source.stage), "'"));
  }
  return curve;
}

void write_training(Html& html, const Report& report, const fs::path& run_folder) {
  if (report.curves.empty()) return;
  std::vector<std::pair<std::string, std::vector<Curve>>> plots;  // by title
  std::vector<std::string> problems;
  for (const CurveSource& source : report.curves) {
    auto plot = std::find_if(plots.begin(), plots.end(),
                             [&](const auto& p) { return p.first == source.title; });
    if (plot == plots.end()) plot = plots.insert(plots.end(), {source.title, {}});
    try {
      plot->second.push_back(read_curve(run_folder, source));
    } catch (const Error& error) {
      problems.push_back(concat(source.title, ": ", error.what()));
    }
  }
  const Html::Scope section = html.in("section");
  html.element("h2", "Training");
  for (const std::string& problem : problems) html.element("p", {{"class", "missing"}}, problem);
  const Html::Scope grid = html.in("div", {{"class", "plots"}});
  for (const auto& [title, curves] : plots) write_curves(html, title, "step", curves);
}

// The rest ------------------------------------------------------------------------------------

void write_seconds(Html& html, const Report& report) {
  if (report.seconds.empty()) return;
  double total = 0, longest = 0;
  for (const auto& [stage, seconds] : report.seconds) {
    total += seconds;
    longest = std::max(longest, seconds);
  }
  const Html::Scope section = html.in("section");
  html.element("h2", "Time");
  html.element("p", {{"class", "soft"}},
               concat("Processor time of all jobs together: ", duration_text(total),
                      "; several run at a time."));
  const ScrollTable table(html, "Time");
  const Html::Scope body = html.in("tbody");
  for (const auto& [stage, seconds] : report.seconds) {
    const Html::Scope row = html.in("tr", {{"class", "other"}});
    html.element("th", {{"scope", "row"}}, stage);
    html.element("td", {{"class", "num"}}, duration_text(seconds));
    const Html::Scope cell = html.in("td", {{"style", "width:60%"}});
    const Html::Scope bar = html.in("span", {{"class", "bar"}, {"aria-hidden", "true"}});
    html.element(
        "i",
        {{"style", concat("width:", fixed(longest > 0 ? 100 * seconds / longest : 0, 2), "%")}});
  }
}

void write_settings(Html& html, const Report& report) {
  if (report.settings.empty()) return;
  const Html::Scope section = html.in("section");
  html.element("h2", "Settings");
  const Html::Scope groups = html.in("div", {{"class", "groups"}});
  for (const auto& [name, pairs] : report.settings) {
    const Html::Scope group = html.in("div");
    html.element("h3", name);
    const Html::Scope list = html.in("dl");
    for (const auto& [key, value] : pairs) {
      const Html::Scope pair = html.in("div");
      html.element("dt", key);
      html.element("dd", value);
    }
  }
}

void write_notes(Html& html, const Report& report) {
  if (report.notes.empty()) return;
  const Html::Scope section = html.in("section");
  html.element("h2", "Notes");
  const Html::Scope list = html.in("ul");
  for (const std::string& note : report.notes) html.element("li", note);
}

void write_footer(Html& html, const Report& report) {
  const Html::Scope footer = html.in("footer", {{"class", "fine"}});
  std::string line = "Written by realfake report from results.json.";
  if (!report.commit.empty()) line += " Commit " + report.commit + ".";
  if (!report.machine.empty()) line += " Machine: " + report.machine + ".";
  html.element("p", line);
}

}  // namespace

std::string report_html(const fs::path& run_folder) {
  const Report report = read_report(run_folder / "results.json");
  const std::string title = report.title.empty() ? "Real-Fake report" : report.title;
  Html html;
  {
    const Html::Scope page = html.in("html", {{"lang", "en"}});
    {
      const Html::Scope head = html.in("head");
      html.empty("meta", {{"charset", "utf-8"}});
      html.empty("meta", {{"http-equiv", "Content-Security-Policy"},
                          {"content",
                           "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'"}});
      html.empty("meta",
                 {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}});
      html.element("title", title);
      html.style(report_style);
    }
    const Html::Scope body = html.in("body");
    {
      const Html::Scope header = html.in("header");
      html.element("h1", title);
      write_headline(html, report);
    }
    {
      const Html::Scope main = html.in("main");
      write_pictures(html, report, run_folder);
      write_results(html, report);
      write_checks(html, report);
      write_privacy(html, report);
      write_training(html, report, run_folder);
      write_seconds(html, report);
      write_settings(html, report);
      write_notes(html, report);
    }
    write_footer(html, report);
  }
  return std::move(html).finish();
}

void write_report(const fs::path& run_folder) {
  write_file_atomic(run_folder / "report.html", report_html(run_folder));
}

}  // namespace realfake
