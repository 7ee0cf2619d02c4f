#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <thread>

#include "tools/demo_jobs.h"

#ifndef REALFAKE_COMMIT
#define REALFAKE_COMMIT "unknown"
#endif

namespace realfake {
namespace {

double mean(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return v.empty() ? 0 : sum / static_cast<double>(v.size());
}

std::string machine_name() {
  std::ifstream in("/proc/cpuinfo");
  std::string line, model = "unknown processor";
  while (std::getline(in, line))
    if (line.rfind("model name", 0) == 0) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  utsname u{};
  uname(&u);
  return concat(model, ", ", std::thread::hardware_concurrency(), " processors, ", u.sysname, " ",
                u.machine);
}

std::vector<double> values(const JobGraph& graph, const std::vector<std::string>& jobs,
                           const char* key) {
  std::vector<double> out;
  for (const std::string& job : jobs) out.push_back(graph.result(job).at(key).get<double>());
  return out;
}

// The pass marks of the demo, as claims with what was measured. Holding or not is said, never
// hidden.
Json check_claims(const Json& accuracy) {
  Json checks = Json::array();
  const auto at = [&](const char* name) {
    return accuracy.contains(name) ? mean(accuracy[name]["per_seed"].get<std::vector<double>>())
                                   : -1;
  };
  const auto have = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(),
                       [&](const char* n) { return accuracy.contains(n); });
  };
  const auto add = [&](const std::string& claim, bool holds, const char* format, double a,
                       double b) {
    char text[160];
    std::snprintf(text, sizeof text, format, a, b);
    checks.push_back({{"claim", claim}, {"measured", text}, {"holds", holds}});
  };
  const double real = at("real"), base = at("base"), once = at("realfake_1x"),
               five = at("realfake_5x"), both = at("real+realfake"), few = at("fewshot/real"),
               few_both = at("fewshot/real+realfake");
  if (have({"real"})) add("real digits alone: at least 97.5 %", real >= 97.5, "%.1f %%", real, 0);
  if (have({"real", "realfake_1x"}))
    add("Real-Fake 1x within 1.5 points of real", once >= real - 1.5, "%.1f against %.1f %%", once,
        real);
  if (have({"base", "realfake_1x"}))
    add("Real-Fake 1x at least 15 points above the base from noise, or a quarter of its error",
        once >= base + 15 || 100 - once <= (100 - base) / 4, "%.1f against %.1f %%", once, base);
  if (have({"real", "real+realfake"}))
    add("real + Real-Fake not below real by more than 1.0", both >= real - 1,
        "%.1f against %.1f %%", both, real);
  if (have({"realfake_1x", "realfake_5x"}))
    add("Real-Fake 5x not below 1x by more than 1.0", five >= once - 1, "%.1f against %.1f %%",
        five, once);
  if (have({"fewshot/real", "fewshot/real+realfake"}))
    add("few shots: synthetic data adds at least 2 points to real alone", few_both >= few + 2,
        "%.1f against %.1f %%", few_both, few);
  return checks;
}

}  // namespace

Json demo_results(const JobGraph& graph, const Demo& demo, const DemoSettings& s,
                  double wall_seconds) {
  Json accuracy = Json::object(), distances = Json::object(), privacy = Json::object();
  for (const DemoRow& row : demo.rows) {
    const std::vector<double> per_seed = values(graph, row.train, "accuracy");
    accuracy[row.name] = {{"per_seed", per_seed},
                          {"n_test", graph.result(row.train.front()).at("n_test")}};
    if (!row.distance.empty())
      distances[row.name] = {{"frechet", values(graph, row.distance, "frechet")},
                             {"fidelity", values(graph, row.distance, "fidelity")}};
    if (!row.copies.empty()) {
      Json p = Json::object();
      for (const char* key : {"own_source_median", "nearest_other_median", "own_is_nearest_percent",
                              "real_real_median"})
        p[key] = values(graph, row.copies, key);
      privacy[row.name] = p;
    }
  }
  std::map<std::string, double> stages;
  for (const auto& [job, seconds] : graph.seconds()) {
    // "seed-0/train/real" is of stage "train"; "embed" and "data" are stages themselves.
    std::string stage = job.rfind("seed-", 0) == 0 ? job.substr(job.find('/') + 1) : job;
    stage = stage.substr(0, stage.find('/'));
    const std::map<std::string, std::string> names{{"sets", "generate"},
                                                   {"train", "train and evaluate"},
                                                   {"copies", "distance"},
                                                   {"fewshot", "embed"},
                                                   {"data", "read and write data"}};
    stages[names.contains(stage) ? names.at(stage) : stage] += seconds;
  }
  const std::string first = concat("seed-", s.first_seed, "/");
  Json curves = Json::array();
  for (const char* name : {"lora", "lora+mmd", "lora+mmd+token"}) {
    const std::string file = concat(first, "finetune/", name, "/metrics.jsonl");
    curves.push_back({{"title", "Fine-tuning: denoising loss"},
                      {"label", name},
                      {"file", file},
                      {"stage", "finetune"},
                      {"key", "loss_denoise"}});
  }
  curves.push_back({{"title", "Fine-tuning: matching term"},
                    {"label", "lora+mmd"},
                    {"file", first + "finetune/lora+mmd/metrics.jsonl"},
                    {"stage", "finetune"},
                    {"key", "loss_mmd"}});
  for (const char* name : {"real", "realfake_1x"})
    curves.push_back({{"title", "Classifier: training loss"},
                      {"label", name},
                      {"file", concat(first, "train/", name, "/metrics.jsonl")},
                      {"stage", "train"},
                      {"key", "loss"}});
  const Json grids = {
      {{"title", "Real (handwritten)"}, {"folder", "data"}, {"split", "train"}, {"per_class", 8}},
      {{"title", "Base (printed, not adapted)"}, {"folder", first + "sets/base"}, {"per_class", 8}},
      {{"title", "Real-Fake"}, {"folder", first + "sets/realfake-1"}, {"per_class", 8}}};
  Json notes = Json::array();
  if (s.tiny)
    notes.push_back(
        "One small step of each stage: this run shows that every stage runs on this device. Its "
        "figures mean nothing.");
  notes.push_back(
      "Every classifier takes the same number of steps whatever its training set, so that larger "
      "sets do not "
      "win by training longer.");
  notes.push_back(
      "The Frechet distance is taken in the features of the classifier trained on the real digits "
      "of the same "
      "seed, divided by their total variance.");
  notes.push_back(
      "fewshot/real+printed is there to keep the few-shot case honest: it mixes the same few real "
      "digits with the "
      "printed ones that the base learned from, with no adaptation at all.");
  Json results = {{"schema", 1},
                  {"title", "Real-Fake on handwritten digits"},
                  {"commit", REALFAKE_COMMIT},
                  {"machine", machine_name()},
                  {"seconds", stages},
                  {"wall_seconds", wall_seconds},
                  {"accuracy", accuracy},
                  {"distances", distances},
                  {"privacy", privacy},
                  {"checks", s.tiny ? Json::array() : check_claims(accuracy)},
                  {"settings", s.json()},
                  {"grids", grids},
                  {"curves", curves},
                  {"notes", notes}};
  return results;
}

std::string demo_table(const Json& results) {
  std::string out;
  char line[200];
  std::snprintf(line, sizeof line, "%-26s %8s  %-22s %9s %9s\n", "trained on", "top-1 %",
                "per seed", "Frechet", "fidelity");
  out += line;
  for (const auto& [name, row] : results["accuracy"].items()) {
    const auto v = row["per_seed"].get<std::vector<double>>();
    std::string each;
    for (const double x : v) {
      std::snprintf(line, sizeof line, "%s%.1f", each.empty() ? "" : " ", x);
      each += line;
    }
    std::string frechet, fidelity;
    if (results["distances"].contains(name)) {
      std::snprintf(line, sizeof line, "%.3f",
                    mean(results["distances"][name]["frechet"].get<std::vector<double>>()));
      frechet = line;
      std::snprintf(line, sizeof line, "%.1f %%",
                    mean(results["distances"][name]["fidelity"].get<std::vector<double>>()));
      fidelity = line;
    }
    std::snprintf(line, sizeof line, "%-26s %8.1f  %-22s %9s %9s\n", name.c_str(), mean(v),
                  each.c_str(), frechet.c_str(), fidelity.c_str());
    out += line;
  }
  out += "\n";
  for (const Json& c : results["checks"])
    out += std::string(c["holds"].get<bool>() ? "  holds   " : "  FAILS   ") +
           c["claim"].get<std::string>() + ": " + c["measured"].get<std::string>() + "\n";
  return out;
}

}  // namespace realfake
