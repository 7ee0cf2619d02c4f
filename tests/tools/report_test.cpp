// The report page: what it shows, that nothing from files reaches it as markup, and what it
// refuses.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>

#include "data/dataset.h"
#include "data/manifest.h"
#include "data/png.h"
#include "kernels/base/error.h"
#include "kernels/base/file.h"
#include "kernels/base/json.h"
#include "tests/testing/temp_dir.h"
#include "tools/html.h"
#include "tools/report_data.h"
#include "tools/report_names.h"
#include "tools/report_page.h"
#include "tools/svg_plot.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;

// A run folder whose results.json is given.
class RunDir : public TempDir {
 public:
  void results(const Json& json) const { write("results.json", json.dump()); }
  void write(const std::string& name, const std::string& content) const {
    fs::create_directories((path() / name).parent_path());
    std::ofstream(path() / name, std::ios::binary) << content;
  }
};

Json smallest() {
  return {{"schema", 1}, {"accuracy", {{"real", {{"per_seed", {98.0}}, {"n_test", 797}}}}}};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// What a strict reader finds on a page; its complaints are test failures.
struct Markup {
  std::vector<std::string> tags;
  std::map<std::string, std::vector<std::string>> attributes;  // values as written, by name
  std::string text;                                            // between the tags
};

Markup read_markup(const std::string& page) {
  Markup found;
  const std::string doctype = "<!DOCTYPE html>\n";
  EXPECT_TRUE(page.starts_with(doctype));
  static const std::set<std::string> without_end = {"meta", "img"};
  static const std::set<std::string> allowed_attributes = {
      "lang",       "charset",     "http-equiv", "content", "name",    "class", "style", "role",
      "aria-label", "aria-hidden", "tabindex",   "scope",   "colspan", "alt",   "src",   "width",
      "height",     "viewBox",     "d",          "x",       "y",       "dy"};
  std::vector<std::string> open;
  size_t at = doctype.size();
  while (at < page.size()) {
    if (!open.empty() && open.back() == "style") {  // raw text up to its end
      at = page.find("</style>", at);
    }
    if (page[at] != '<') {
      const size_t end = std::min(page.find('<', at), page.size());
      found.text += page.substr(at, end - at);
      at = end;
      continue;
    }
    const size_t end = page.find('>', at);
    if (end == std::string::npos) {
      ADD_FAILURE() << "a tag without end";
      break;
    }
    std::string tag = page.substr(at + 1, end - at - 1);
    at = end + 1;
    if (tag[0] == '/') {
      EXPECT_FALSE(open.empty());
      if (open.empty()) break;
      EXPECT_EQ(tag.substr(1), open.back());
      open.pop_back();
      continue;
    }
    const size_t space = std::min(tag.find(' '), tag.size());
    const std::string name = tag.substr(0, space);
    found.tags.push_back(name);
    if (!without_end.contains(name)) open.push_back(name);
    std::string_view rest = std::string_view(tag).substr(space);
    while (!rest.empty()) {
      const size_t equals = rest.find("=\"");
      const size_t quote = equals == std::string_view::npos ? equals : rest.find('"', equals + 2);
      if (rest[0] != ' ' || quote == std::string_view::npos) {
        ADD_FAILURE() << "attributes of <" << tag << ">";
        break;
      }
      const std::string attribute(rest.substr(1, equals - 1));
      EXPECT_TRUE(allowed_attributes.contains(attribute)) << attribute;
      found.attributes[attribute].emplace_back(rest.substr(equals + 2, quote - equals - 2));
      rest.remove_prefix(quote + 1);
    }
  }
  EXPECT_TRUE(open.empty());
  return found;
}

void expect_harmless(const std::string& page) {
  const Markup markup = read_markup(page);
  static const std::set<std::string> allowed = {
      "html",   "head",    "meta",   "title",      "style", "body", "header", "main",
      "footer", "section", "h1",     "h2",         "h3",    "p",    "div",    "span",
      "strong", "code",    "table",  "thead",      "tbody", "tr",   "th",     "td",
      "i",      "b",       "figure", "figcaption", "img",   "svg",  "path",   "text",
      "dl",     "dt",      "dd",     "ul",         "li"};
  for (const std::string& tag : markup.tags) EXPECT_TRUE(allowed.contains(tag)) << tag;
  EXPECT_EQ(count(page, "<style>"), 1u);
  EXPECT_EQ(count(page, "default-src &#39;none&#39;; img-src &#39;self&#39; data:; style-src "),
            1u);
  for (const auto& [name, values] : markup.attributes) {
    for (const std::string& value : values) {
      EXPECT_FALSE(contains(value, "<") || contains(value, "'")) << name << " " << value;
      if (name == "src") {
        EXPECT_TRUE(value.starts_with("data:image/png;base64,")) << value.substr(0, 60);
      }
      if (name == "style") {  // numbers and our own words only
        EXPECT_EQ(value.find_first_not_of("abcdefghijklmnopqrstuvwxyz-0123456789.:;%(), "),
                  std::string::npos)
            << value;
        EXPECT_FALSE(contains(value, "url")) << value;
      }
    }
  }
  // Nothing that hides or reorders text, and no control characters but line ends.
  for (const char* hidden :
       {"\u202e", "\u202a", "\u2066", "\u200b", "\u2028", "\ufeff", "\u061c"}) {
    EXPECT_FALSE(contains(page, hidden));
  }
  for (const char c : page) {
    EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
    EXPECT_NE(c, '\x7f');
  }
}

const std::vector<std::string>& hostile_texts() {
  static const std::vector<std::string> texts = {
      "<script>alert(1)</script>",
      "</title><script>alert(2)</script>",
      "</style><script>alert(3)</script>",
      "<img src=x onerror=alert(4)>",
      "\"><svg onload=alert(5)>",
      "' onmouseover='alert(6)",
      "\" onfocus=\"alert(7)\" autofocus=\"",
      "<a href=\"javascript:alert(8)\">x</a>",
      "<iframe srcdoc='<script>alert(9)</script>'>",
      "<!-- comment",
      "--> <b>",
      "<![CDATA[ x ]]>",
      "<?xml version='1.0'?>",
      "&lt;script&gt;",
      "&#60;script&#62;",
      "&amp;amp;",
      "<base href=//evil.example>",
      "<meta http-equiv=refresh content=0>",
      "<link rel=stylesheet href=//evil.example/x.css>",
      "url(https://evil.example/x.png)",
      "expression(alert(10))",
      "}</style>*{display:none}",
      "</td></tr></table>",
      "</svg><script>alert(11)</script>",
      "<svg><style><img src=x onerror=alert(12)></style>",
      "<math><mtext><table><mglyph><style><img src=x onerror=alert(13)>",
      "<noscript><p title=\"</noscript><img src=x onerror=alert(14)>\">",
      "<template><script>alert(15)</script></template>",
      "<object data=//evil.example>",
      "<form action=//evil.example><input>",
      "photo of \u202egnp.exe",
      "\u2066hidden\u2069 \u200b\ufeff",
      "\u061carabic \u2028line \u2029paragraph",
      std::string("nul \0 byte", 10),
      "\x1b[31mred\x1b[0m \x07\x08",
      "\xc2\x85next \xc2\x9b"
      "C1",
      "a\r\nb\tc\x7f",
      std::string(5000, 'A') + "<script>",
      "${alert(16)} {{alert(17)}} `alert(18)`",
      "../../etc/passwd%00<script>",
      "\U000E0041\U000E0042 tags",
      "zürich 東京 😀",
  };
  return texts;
}

ImageSet pictures(const std::vector<std::string>& classes, int64_t per_class, int64_t side) {
  ImageSet set;
  set.height = set.width = side;
  set.channels = 1;
  set.classes = classes;
  for (int64_t i = 0; i < per_class * static_cast<int64_t>(classes.size()); ++i) {
    set.labels.push_back(i % static_cast<int64_t>(classes.size()));
    set.pixels.insert(set.pixels.end(), static_cast<size_t>(side * side), static_cast<uint8_t>(i));
  }
  return set;
}

Json whole_run(const RunDir& run) {
  fs::create_directories(run / "real");
  write_idx(run / "real", "train", pictures({"cat", "dog"}, 9, 8));
  DatasetWriter writer(run / "fake", {"cat", "dog"});
  for (int64_t i = 0; i < 6; ++i) {
    writer.write(i, {40, 40, 3, std::vector<uint8_t>(4800, 99)}, i % 2, "photo of it", 0);
  }
  std::string metrics;
  for (int i = 1; i <= 300; ++i) {
    metrics +=
        Json{{"stage", "finetune"}, {"step", i}, {"loss", 1.0 / i}, {"mmd", 7.0}}.dump() + "\n";
  }
  run.write("metrics.jsonl", metrics + "{\"stage\": \"fine");  // torn last line
  Json json = smallest();
  json["title"] = "A run";
  json["commit"] = "abc123";
  json["machine"] = "2 cores";
  json["seconds"] = {{"finetune", 31.5}, {"train", 7325.0}};
  json["accuracy"]["realfake_1x"] = {{"per_seed", {96.0, 97.0, 98.0}}, {"n_test", 797}};
  json["accuracy"]["base"] = {{"per_seed", {70.0}}, {"n_test", 797}};
  json["accuracy"]["ablation/lora"] = {{"per_seed", {95.0}}, {"n_test", 797}};
  json["accuracy"]["fewshot/real"] = {{"per_seed", {85.0}}, {"n_test", 797}};
  json["distances"] = {{"base", {{"frechet", {40.0, 42.0}}, {"fidelity", {71.5}}}},
                       {"only-distance", {{"frechet", {5.0}}}}};
  json["privacy"] = {
      {"realfake_1x", {{"own_source_median", {1.5}}, {"own_is_nearest_percent", {27.0}}}}};
  json["checks"] = {{{"claim", "beats the base"}, {"measured", "+27"}, {"holds", true}},
                    {{"claim", "beats real"}, {"measured", "-1"}, {"holds", false}}};
  json["settings"] = {
      {"finetune", {{"lr", 0.005}, {"rank", 4}, {"token", nullptr}, {"list", {1, 2}}}}};
  json["grids"] = {{{"title", "Real"}, {"folder", "real"}, {"split", "train"}, {"per_class", 8}},
                   {{"title", "Made"}, {"folder", "fake"}}};
  json["curves"] = {
      {{"title", "Loss"}, {"file", "metrics.jsonl"}, {"stage", "finetune"}, {"key", "loss"}},
      {{"title", "Loss"}, {"file", "metrics.jsonl"}, {"stage", "finetune"}, {"key", "mmd"}}};
  json["notes"] = {"A note."};
  json["a key of later versions"] = {1, 2, 3};
  return json;
}

TEST(Report, ShowsEveryPart) {
  const RunDir run;
  run.results(whole_run(run));
  write_report(run.path());
  const std::string page = read_file(run / "report.html", 10 << 20);
  expect_harmless(page);
  EXPECT_EQ(count(page, "<img "), 4u);  // two classes of two sets
  EXPECT_TRUE(contains(page, "alt=\"cat: 8 pictures, Real\""));
  EXPECT_TRUE(contains(page, "alt=\"dog: 3 pictures, Made\""));
  EXPECT_TRUE(contains(page, "recognises 97.0 % of 797 held-out real ones"));
  EXPECT_TRUE(contains(page, "96.0 to 98.0"));
  EXPECT_TRUE(contains(page, "96.0 · 97.0 · 98.0"));
  EXPECT_TRUE(contains(page, "± 0.60"));  // sqrt(.97 * .03 / 797)
  EXPECT_TRUE(contains(page, "Ablation"));
  EXPECT_TRUE(contains(page, "Few real pictures"));
  EXPECT_TRUE(contains(page, "only-distance"));
  EXPECT_TRUE(contains(page, "✓ holds"));
  EXPECT_TRUE(contains(page, "✗ does not hold"));
  EXPECT_TRUE(contains(page, "1 of 2 hold."));
  EXPECT_TRUE(contains(page, "2 h 2 min"));
  EXPECT_TRUE(contains(page, "<dd>0.005</dd>"));
  EXPECT_EQ(count(page, "class=\"plot\""), 1u);  // two curves share it
  EXPECT_EQ(count(page, "class=\"raw "), 2u);
  EXPECT_FALSE(contains(page, "class=\"missing\""));
  EXPECT_FALSE(contains(page, "http:") || contains(page, "https:"));
}

TEST(Report, LeavesNoTemporaryFile) {
  const RunDir run;
  run.results(smallest());
  write_report(run.path());
  write_report(run.path());
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(run.path()))
    names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"report.html", "results.json"}));
}

TEST(Report, EverythingButAccuracyMayBeMissing) {
  const RunDir run;
  run.results(smallest());
  const std::string page = report_html(run.path());
  expect_harmless(page);
  EXPECT_TRUE(contains(page, "98.0"));
  EXPECT_FALSE(contains(page, "Are they copies?"));
  EXPECT_FALSE(contains(page, "nan"));
  run.results({{"schema", 1}, {"accuracy", Json::object()}, {"title", nullptr}});
  EXPECT_TRUE(contains(report_html(run.path()), "no accuracy yet"));
}

TEST(Report, EachOptionalPartMayBeMissing) {
  const RunDir run;
  const Json whole = whole_run(run);
  for (const auto& [key, value] : whole.items()) {
    if (key == "schema" || key == "accuracy") continue;
    Json part = whole;
    part.erase(key);
    run.results(part);
    expect_harmless(report_html(run.path()));
  }
}

TEST(Report, HostileTextsStayText) {
  const std::vector<std::string>& texts = hostile_texts();
  ASSERT_GE(texts.size(), 40u);
  const RunDir run;
  Json json = smallest();
  json["title"] = texts[1];
  json["commit"] = texts[0];
  json["machine"] = texts[4];
  int n = 0;
  for (const std::string& text : texts) {
    const std::string stage = "s" + std::to_string(n);
    json["accuracy"][text] = {{"per_seed", {50.0, 60.0}}, {"n_test", 10}};
    json["accuracy"][text + "/" + text] = {{"per_seed", {50.0}}, {"n_test", 10}};
    json["distances"][text] = {{"frechet", {1.0}}};
    json["privacy"][text] = {{"own_source_median", {1.0}}};
    json["checks"].push_back({{"claim", text}, {"measured", text}, {"holds", n % 2 == 0}});
    json["settings"][text] = {{text, text}, {"list", {text}}};
    json["seconds"][text] = 1.0;
    json["notes"].push_back(text);
    json["grids"].push_back({{"title", text}, {"folder", "real"}});
    json["grids"].push_back({{"title", text}, {"folder", text.substr(0, 100)}});
    json["curves"].push_back(
        {{"title", text}, {"file", "metrics.jsonl"}, {"stage", text}, {"key", text}});
    json["curves"].push_back({{"title", text}, {"file", "metrics.jsonl"}, {"key", "other"}});
    ++n;
  }
  std::string metrics;
  for (int step = 1; step < 4; ++step) {
    for (const std::string& text : texts) {
      metrics += Json{{"stage", text}, {"step", step}, {text, 0.5}}.dump() + "\n";
    }
  }
  run.write("metrics.jsonl", metrics);
  // Names of class folders and of files may hold any byte but '/' and NUL.
  const Image dot{4, 4, 1, std::vector<uint8_t>(16, 7)};
  for (std::string name : texts) {
    std::erase_if(name, [](char c) { return c == '/' || c == '\0'; });
    name.resize(std::min<size_t>(name.size(), 200));
    const fs::path folder = run / "real" / name;
    fs::create_directories(folder);
    std::ofstream(folder / "\xff<b>.png", std::ios::binary) << encode_png(dot);
  }
  fs::create_directories(run / "real" / "bytes \xff\xfe\xc0\xaf");
  run.results(json);
  const std::string page = report_html(run.path());
  expect_harmless(page);
  EXPECT_GE(count(page, "<img "), 24u);  // the hostile class names are shown
  EXPECT_FALSE(contains(page, "<script"));
  EXPECT_FALSE(contains(page, "<img src"));
  EXPECT_TRUE(contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;"));
  EXPECT_TRUE(contains(page, "&amp;lt;script&amp;gt;"));
  EXPECT_TRUE(contains(page, "photo of \\u{202E}gnp.exe"));
  EXPECT_TRUE(contains(page, "\\u{1B}[31mred"));
  EXPECT_TRUE(contains(page, "zürich 東京 😀"));
  EXPECT_TRUE(contains(page, "more bytes)"));
}

TEST(Report, NamesWhatCannotBeRead) {
  const RunDir run;
  run.write("broken/cat/a.png", "not a picture");
  run.write("m.jsonl", "{\"step\":1,\"loss\":2}\n{\"step\":\n");
  Json json = smallest();
  json["grids"] = {{{"title", "G"}, {"folder", "gone"}}, {{"title", "H"}, {"folder", "broken"}}};
  json["curves"] = {{{"title", "C"}, {"file", "gone.jsonl"}, {"key", "loss"}},
                    {{"title", "D"}, {"file", "m.jsonl"}, {"key", "loss"}}};
  run.results(json);
  const std::string page = report_html(run.path());
  expect_harmless(page);
  EXPECT_EQ(count(page, "class=\"missing\""), 4u);
  EXPECT_TRUE(contains(page, "gone: not a folder"));
  EXPECT_TRUE(contains(page, "a.png"));
  EXPECT_TRUE(contains(page, "gone.jsonl"));
  EXPECT_TRUE(contains(page, "line 2"));
}

TEST(Report, ManyClassesAreCut) {
  const RunDir run;
  std::vector<std::string> classes;
  for (int i = 0; i < 60; ++i) classes.push_back("class" + std::to_string(100 + i));
  fs::create_directories(run / "real");
  write_idx(run / "real", "train", pictures(classes, 1, 4));
  Json json = smallest();
  json["grids"] = {{{"title", "G"}, {"folder", "real"}}};
  run.results(json);
  const std::string page = report_html(run.path());
  EXPECT_TRUE(contains(page, "The first 24 of 60 classes are shown."));
  EXPECT_EQ(count(page, "<img "), 24u);
}

TEST(Report, RefusesDamagedResults) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "results.json"},
      {"[]", "expected a JSON object"},
      {"{\"schema\":1", "expected"},
      {"{}", "no key 'schema'"},
      {"{\"schema\":2,\"accuracy\":{}}", "'schema' is 2, expected 1..1"},
      {"{\"schema\":1}", "no key 'accuracy'"},
      {"{\"schema\":1,\"accuracy\":[]}", "accuracy: found no object"},
      {R"({"schema":1,"accuracy":{"a":1}})", "accuracy: a: found a number"},
      {R"({"schema":1,"accuracy":{"a":{"per_seed":[],"n_test":5}}})",
       "a: per_seed: found no values"},
      {R"({"schema":1,"accuracy":{"a":{"per_seed":["9"],"n_test":5}}})", "entry 0: found"},
      {R"({"schema":1,"accuracy":{"a":{"per_seed":[100.5],"n_test":5}}})", "found 100.5"},
      {R"({"schema":1,"accuracy":{"a":{"per_seed":[-1],"n_test":5}}})", "found -1"},
      {R"({"schema":1,"accuracy":{"a":{"per_seed":[1e999],"n_test":5}}})", "results.json"},
      {R"({"schema":1,"accuracy":{"a":{"per_seed":[5],"n_test":0}}})", "'n_test' is 0"},
      {R"({"schema":1,"accuracy":{"a":{"per_seed":[5]}}})", "no key 'n_test'"},
      {R"({"schema":1,"accuracy":{},"accuracy":{}})", "appears twice"},
      {R"({"schema":1,"accuracy":{},"title":5})", "'title'"},
      {R"({"schema":1,"accuracy":{},"seconds":{"a":"b"}})", "seconds: a: found"},
      {R"({"schema":1,"accuracy":{},"seconds":{"a":-1}})", "seconds: a: found"},
      {R"({"schema":1,"accuracy":{},"distances":{"a":{"frechet":5}}})", "distances: a: frechet"},
      {R"({"schema":1,"accuracy":{},"privacy":{"a":[]}})", "privacy: a"},
      {R"({"schema":1,"accuracy":{},"checks":[{"claim":"x"}]})", "no key 'holds'"},
      {R"({"schema":1,"accuracy":{},"checks":[5]})", "checks: entry 0"},
      {R"({"schema":1,"accuracy":{},"settings":{"a":5}})", "settings: a"},
      {R"({"schema":1,"accuracy":{},"grids":{}})", "grids: found no array"},
      {R"({"schema":1,"accuracy":{},"grids":[{"title":"x"}]})", "no key 'folder'"},
      {R"({"schema":1,"accuracy":{},"grids":[{"folder":"x","per_class":0}]})", "'per_class' is 0"},
      {R"({"schema":1,"accuracy":{},"curves":[{"file":"x"}]})", "no key 'key'"},
      {R"({"schema":1,"accuracy":{},"notes":[5]})", "notes"},
      {"{\"schema\":1,\"accuracy\":{},\"title\":\"\xff\"}", "invalid UTF-8"},
      {std::string(100, '['), "nested deeper"},
  };
  const RunDir run;
  run.write("report.html", "an earlier page");
  for (const auto& [text, message] : cases) {
    run.write("results.json", text);
    try {
      write_report(run.path());
      ADD_FAILURE() << "taken: " << text;
    } catch (const InputError& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_input);
      EXPECT_TRUE(contains(error.what(), "results.json: ")) << error.what();
      EXPECT_TRUE(contains(error.what(), message)) << error.what() << "\nexpected: " << message;
    }
  }
  EXPECT_EQ(read_file(run / "report.html", 100), "an earlier page");
}

TEST(Report, RefusesAFolderWithoutResults) {
  const RunDir run;
  EXPECT_THROW(write_report(run.path()), Error);
  EXPECT_FALSE(fs::exists(run / "report.html"));
}

TEST(Report, NamesInWords) {
  EXPECT_EQ(row_label("realfake_5x"), "Real-Fake, 5 per real picture");
  EXPECT_EQ(row_label("real+realfake"), "Real and Real-Fake together");
  EXPECT_EQ(row_label("realfake_x"), "");
  EXPECT_EQ(row_label("realfake_<x"), "");
  EXPECT_STREQ(row_tone("fewshot/real"), "real");
  EXPECT_STREQ(row_tone("ablation/lora"), "other");
}

TEST(Html, Base64) {  // the vectors of RFC 4648
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(Html, EscapesAndShowsBadBytes) {
  EXPECT_EQ(html_text("a<b>&\"'"), "a&lt;b&gt;&amp;\"'");
  EXPECT_EQ(html_attribute("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(html_text("\xff\xc0\x80"), "\\xFF\\xC0\\x80");
  EXPECT_EQ(html_text(std::string_view("\0\n", 2)), "\\u{0}\\u{A}");
}

TEST(SvgPlot, RoundTicks) {
  EXPECT_EQ(round_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(round_ticks(-1, 1, 4), (std::vector<double>{-1, -0.5, 0, 0.5, 1}));
  EXPECT_TRUE(round_ticks(1, 1, 5).empty());
  EXPECT_TRUE(round_ticks(0, 1e308 * 10, 5).empty());
}

TEST(SvgPlot, RunningMean) {
  for (const double value : running_mean(std::vector<double>(50, 3.0), 5))
    EXPECT_DOUBLE_EQ(value, 3.0);
  std::vector<double> slope;
  for (int i = 0; i < 201; ++i) slope.push_back(i);
  EXPECT_NEAR(running_mean(slope, 5)[100], 100.0, 1e-9);  // no lag
  EXPECT_TRUE(running_mean({}, 5).empty());
}

TEST(SvgPlot, OddCurves) {
  for (const std::vector<double>& y :
       {std::vector<double>{5}, std::vector<double>{0, 0, 0},
        std::vector<double>{1e300, -1e300, 1e300}, std::vector<double>{1e-300, 2e-300, 1e-300},
        std::vector<double>{-5, -5.0001, -5}}) {
    Curve curve{"c", {}, y};
    for (size_t i = 0; i < y.size(); ++i) curve.x.push_back(static_cast<double>(i));
    Html html;
    write_curves(html, "t", "step", {curve, {"empty", {}, {}}});
    const std::string svg = std::move(html).finish();
    EXPECT_TRUE(contains(svg, "class=\"mean s0\""));
    EXPECT_FALSE(contains(svg, "nan") || contains(svg, "inf")) << svg;
  }
}

}  // namespace
}  // namespace realfake
