#include "tools/report_data.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/base/error.h"
#include "kernels/base/file.h"

namespace realfake {
namespace {

constexpr int64_t max_per_class = 32;

// Calls `use(name, value, place)` for every member of the object under `key`, where there is one.
template <class Use>
void each_member(const JsonReader& json, const std::string& key, const Use& use) {
  if (!json.has(key)) return;
  const std::string place = concat(json.where(), ": ", key);
  if (!json.at(key).is_object()) throw InputError(place + ": found no object, expected an object");
  for (const auto& [name, value] : json.at(key).items()) {
    use(name, value, concat(place, ": ", printable(name)));
  }
}

template <class Use>
void each_item(const JsonReader& json, const std::string& key, const Use& use) {
  if (!json.has(key)) return;
  const std::string place = concat(json.where(), ": ", key);
  if (!json.at(key).is_array()) throw InputError(place + ": found no array, expected an array");
  for (size_t i = 0; i < json.at(key).size(); ++i) {
    use(json.at(key)[i], concat(place, ": entry ", i));
  }
}

double number_within(const Json& value, const std::string& place, double low, double high) {
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  if (!(number >= low && number <= high)) {
    throw InputError(concat(place, ": found ", printable(value.dump().substr(0, 80)),
                            ", expected a number of ", low, "..", high));
  }
  return number;
}

Values values_of(const JsonReader& json, const std::string& key, double high) {
  Values values;
  each_item(json, key, [&](const Json& value, const std::string& place) {
    values.push_back(number_within(value, place, 0, high));
  });
  return values;
}

void read_rows(const JsonReader& json, Report& report) {
  if (!json.has("accuracy")) {
    throw InputError(json.where() + ": no key 'accuracy', expected an object");
  }
  each_member(json, "accuracy",
              [&](const std::string& name, const Json& value, const std::string& place) {
                const JsonReader entry(value, place);
                ResultRow row;
                row.name = name;
                row.accuracy = values_of(entry, "per_seed", 100);
                if (row.accuracy.empty()) {
                  throw InputError(place + ": per_seed: found no values, expected one a seed");
                }
                row.n_test = entry.integer("n_test", 1, int64_t{1} << 40);
                report.rows.push_back(std::move(row));
              });
  each_member(json, "distances",
              [&](const std::string& name, const Json& value, const std::string& place) {
                const JsonReader entry(value, place);
                auto row = std::find_if(report.rows.begin(), report.rows.end(),
                                        [&](const ResultRow& r) { return r.name == name; });
                if (row == report.rows.end()) {
                  report.rows.emplace_back().name = name;
                  row = report.rows.end() - 1;
                }
                row->frechet = values_of(entry, "frechet", std::numeric_limits<double>::max());
                row->fidelity = values_of(entry, "fidelity", 100);
              });
}

std::string shown_value(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) {  // 0.005, not 0.0050000000000000001
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value.get<double>());
    return text;
  }
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string ResultRow::group() const {
  const size_t slash = name.find('/');
  return slash == std::string::npos ? "" : name.substr(0, slash);
}

const ResultRow* Report::row(const std::string& name) const {
  for (const ResultRow& row : rows) {
    if (row.name == name && !row.accuracy.empty()) return &row;
  }
  return nullptr;
}

Report read_report(const std::filesystem::path& results_json) {
  const Json root = read_json(results_json);
  const JsonReader json(root, printable(results_json.string()));
  json.integer("schema", 1, 1);
  Report report;
  report.title = json.text_or("title", "");
  report.commit = json.text_or("commit", "");
  report.machine = json.text_or("machine", "");
  constexpr double any = std::numeric_limits<double>::max();
  each_member(json, "seconds",
              [&](const std::string& name, const Json& value, const std::string& place) {
                report.seconds.emplace_back(name, number_within(value, place, 0, any));
              });
  read_rows(json, report);
  each_member(json, "privacy",
              [&](const std::string& name, const Json& value, const std::string& place) {
                const JsonReader entry(value, place);
                report.privacy.push_back({name, values_of(entry, "own_source_median", any),
                                          values_of(entry, "nearest_other_median", any),
                                          values_of(entry, "own_is_nearest_percent", 100),
                                          values_of(entry, "real_real_median", any)});
              });
  each_item(json, "checks", [&](const Json& value, const std::string& place) {
    const JsonReader entry(value, place);
    if (!entry.has("holds")) throw InputError(place + ": no key 'holds', expected true or false");
    report.checks.push_back(
        {entry.text("claim"), entry.text_or("measured", ""), entry.boolean_or("holds", false)});
  });
  each_member(json, "settings",
              [&](const std::string& name, const Json& value, const std::string& place) {
                const JsonReader group(value, place);  // for its check that this is an object
                auto& pairs = report.settings.emplace_back(name, Pairs{}).second;
                for (const auto& [key, setting] : value.items())
                  pairs.emplace_back(key, shown_value(setting));
              });
  each_item(json, "grids", [&](const Json& value, const std::string& place) {
    const JsonReader entry(value, place);
    report.grids.push_back({entry.text_or("title", entry.text("folder")),
                            entry.text_or("split", "train"), entry.text("folder"),
                            entry.integer_or("per_class", 8, 1, max_per_class)});
  });
  each_item(json, "curves", [&](const Json& value, const std::string& place) {
    const JsonReader entry(value, place);
    const std::string key = entry.text("key"), label = entry.text_or("label", "");
    report.curves.push_back(
        {entry.text_or("title", key), label, entry.text_or("stage", ""), key, entry.text("file")});
  });
  if (json.has("notes")) report.notes = json.texts("notes");
  return report;
}

double mean_of(const Values& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}
double lowest_of(const Values& values) {
  return *std::min_element(values.begin(), values.end());
}
double highest_of(const Values& values) {
  return *std::max_element(values.begin(), values.end());
}

double standard_error(double percent, int64_t n) {
  const double p = percent / 100;
  return 100 * std::sqrt(std::max(0.0, p * (1 - p)) / static_cast<double>(n));
}

}  // namespace realfake
