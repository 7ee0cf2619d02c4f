#include "train/run_folder.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "kernels/base/json.h"
#include "train/tensorboard.h"

namespace realfake {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t metrics_limit = uint64_t{4} << 30;
constexpr int64_t logged_steps = 10000;  // of a stage at most; longer stages log every k-th step
constexpr size_t summary_steps = 100;

volatile sig_atomic_t g_signal = 0;

int exit_code_of(int signal) {
  return signal == SIGINT ? 130 : 143;
}

extern "C" void on_stop_signal(int signal) {
  if (g_signal != 0) _exit(exit_code_of(signal));
  g_signal = signal;
  const char text[] = "\nstopping after this step and saving; once more stops at once\n";
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) {
  }  // nobody left to tell
}

double unix_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  return static_cast<double>(ms) / 1000;
}

double seconds_between(std::chrono::steady_clock::time_point a,
                       std::chrono::steady_clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::max(0.0, std::min(seconds, 1e9)) + 0.5);
  char buffer[64];
  if (s >= 3600)
    std::snprintf(buffer, sizeof buffer, "%ldh%02ldm", static_cast<long>(s / 3600),
                  static_cast<long>(s / 60 % 60));
  else if (s >= 60)
    std::snprintf(buffer, sizeof buffer, "%ldm%02lds", static_cast<long>(s / 60),
                  static_cast<long>(s % 60));
  else
    std::snprintf(buffer, sizeof buffer, "%lds", static_cast<long>(s));
  return buffer;
}

template <class... Arguments>
std::string formatted(const char* format, Arguments... arguments) {
  char buffer[128];
  std::snprintf(buffer, sizeof buffer, format, arguments...);
  return buffer;
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

bool is_measure(const std::string& key) {
  return key != "stage" && key != "step" && key != "total" && key != "time";
}

std::vector<Json> read_metrics(const fs::path& file) {
  std::vector<Json> rows;
  if (!fs::exists(file)) return rows;
  size_t number = 0;
  for (const std::string& line : read_whole_lines(file, metrics_limit)) {
    const std::string where = concat(file.string(), ": line ", ++number);
    Json row = parse_json(line, where);
    const JsonReader reader(row, where);
    reader.text("stage");
    reader.integer("step", 0, INT64_MAX);
    reader.number("time");
    rows.push_back(std::move(row));
  }
  return rows;
}

void write_summary(const fs::path& file, const std::vector<Json>& rows) {
  std::vector<std::string> columns{"stage", "step", "total", "time"};
  std::map<std::string, std::vector<const Json*>> stages;
  std::vector<std::string> order;
  for (const Json& row : rows) {
    for (const auto& [key, value] : row.items())
      if (std::find(columns.begin(), columns.end(), key) == columns.end()) columns.push_back(key);
    auto& list = stages[row["stage"].get<std::string>()];
    if (list.empty()) order.push_back(row["stage"].get<std::string>());
    list.push_back(&row);
  }
  std::string out;
  for (const std::string& column : columns) out += (out.empty() ? "" : ",") + csv_field(column);
  out += '\n';
  for (const std::string& name : order) {
    const auto& list = stages[name];
    const size_t stride = (list.size() + summary_steps - 1) / summary_steps;
    for (size_t i = 0; i < list.size(); ++i) {
      if ((list.size() - 1 - i) % stride != 0) continue;  // the last step is always there
      std::string line;
      for (size_t c = 0; c < columns.size(); ++c) {
        if (c) line += ',';
        const auto value = list[i]->find(columns[c]);
        if (value == list[i]->end() || value->is_null()) continue;
        line += value->is_string() ? csv_field(value->get<std::string>()) : value->dump();
      }
      out += line + '\n';
    }
  }
  write_file_atomic(file, out);
}

// One event file a run: those of an earlier finish() are replaced.
void write_events(const fs::path& folder, const std::vector<Json>& rows) {
  const std::string begin = "events.out.tfevents.", end = ".realfake";
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind(begin, 0) == 0 && name.size() > end.size() &&
        name.compare(name.size() - end.size(), end.size(), end) == 0)
      fs::remove(entry.path());
  }
  std::vector<ScalarEvent> events;
  for (const Json& row : rows) {
    ScalarEvent event{row["time"].get<double>(), row["step"].get<int64_t>(), {}};
    for (const auto& [key, value] : row.items())
      if (is_measure(key) && value.is_number())
        event.values.emplace_back(row["stage"].get<std::string>() + "/" + key, value.get<float>());
    events.push_back(std::move(event));
  }
  const double start = events.empty() ? unix_time() : events.front().wall_time;
  char host[256] = "host";
  gethostname(host, sizeof host - 1);
  host[sizeof host - 1] = '\0';
  write_event_file(folder / concat(begin, static_cast<int64_t>(start), ".", host, end), events);
}

}  // namespace

void catch_stop_signals() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = on_stop_signal;
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
      struct sigaction old {};
      sigaction(signal, nullptr, &old);
      if (old.sa_handler == SIG_IGN)
        continue;  // nohup and background jobs stay as they were asked for
      sigaction(signal, &action, nullptr);
    }
  });
}

int stop_signal() {
  return g_signal;
}
ExitCode stop_exit_code() {
  return static_cast<ExitCode>(exit_code_of(g_signal == 0 ? SIGINT : static_cast<int>(g_signal)));
}

double resident_mib() {
  std::ifstream statm("/proc/self/statm");
  int64_t total = 0, resident = 0;
  if (!(statm >> total >> resident)) return 0;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

RunFolder::RunFolder(const fs::path& folder, const std::string& config, Display display,
                     const std::string& label)
    : folder_(folder), display_(display), label_(label.empty() ? "" : label + ": ") {
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed || !fs::is_directory(folder))
    throw IoError(concat(printable(folder.string()), ": cannot make this folder: ",
                         failed ? failed.message() : "it is a file"));
  lock_ = std::make_unique<FolderLock>(folder);
  catch_stop_signals();
  if (!config.empty()) write_file_atomic(folder / "config.toml", config);
  // A line that a kill left torn would run into the next one.
  const fs::path file = folder / "metrics.jsonl";
  if (fs::exists(file)) {
    std::string text;
    for (const std::string& line : read_whole_lines(file, metrics_limit)) text += line + "\n";
    if (text.size() != fs::file_size(file)) write_file_atomic(file, text);
  }
  metrics_ = std::make_unique<LineAppender>(file);
  bar_ = display == Display::automatic && isatty(STDERR_FILENO);
}

RunFolder::~RunFolder() {
  clear_bar();
}

void RunFolder::step(const std::string& name, int64_t step, int64_t total, const Metrics& metrics) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto now = Clock::now();
  auto [it, is_new] = stages_.try_emplace(name);
  Stage& stage = it->second;
  if (is_new) {
    stage.first = step;
    stage.start = now;
    stage.shown = now - std::chrono::hours(1);
  }
  stage.last = step;
  stage.latest = now;
  const int64_t stride = std::max<int64_t>(1, (total + logged_steps - 1) / logged_steps);
  if (step % stride == 0 || step == 1 || step == total) {
    Json row{{"stage", name}, {"step", step}, {"total", total}, {"time", unix_time()}};
    for (const auto& [key, value] : metrics) {
      require(is_measure(key), "[run_folder] a measure may not be called '", key, "'");
      row[key] = std::isfinite(value) ? Json(value) : Json(nullptr);
    }
    metrics_->append(row.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  if (display_ == Display::silent) return;
  const double wait = bar_ ? 0.1 : 5;
  if (step != total && seconds_between(stage.shown, now) < wait) return;
  stage.shown = now;
  show(name, stage, total, metrics);
}

// "finetune 120/2000  loss 0.1234  3.4 steps/s  9m12s left  812 MiB"
void RunFolder::show(const std::string& name, Stage& stage, int64_t total, const Metrics& metrics) {
  std::string line = label_ + printable(name) + " " + std::to_string(stage.last);
  if (total > 0) line += "/" + std::to_string(total);
  for (const auto& [key, value] : metrics)
    line += "  " + printable(key) + formatted(" %.4g", value);
  const double spent = seconds_between(stage.start, stage.latest);
  const auto done = static_cast<double>(stage.last - stage.first);
  if (spent > 0 && done > 0) {
    const double rate = done / spent;
    line += rate >= 1 ? formatted("  %.1f steps/s", rate) : formatted("  %.1f s/step", 1 / rate);
    if (stage.last < total)
      line += "  " + duration_text(static_cast<double>(total - stage.last) / rate) + " left";
    else
      line += "  " + duration_text(spent);
  }
  line += formatted("  %.0f MiB", resident_mib());
  if (!bar_) {
    std::fprintf(stderr, "%s\n", line.c_str());
    return;
  }
  constexpr int64_t width = 24;
  if (total > 0) {
    const int64_t full = std::clamp<int64_t>(stage.last * width / total, 0, width);
    line = "[" + std::string(static_cast<size_t>(full), '#') +
           std::string(static_cast<size_t>(width - full), '.') + "] " + line;
  }
  const bool end = stage.last == total;
  std::fprintf(stderr, "\r\x1b[2K%s%s", line.c_str(), end ? "\n" : "");
  std::fflush(stderr);
  bar_shown_ = !end;
}

void RunFolder::clear_bar() {
  if (!bar_shown_) return;
  std::fputs("\r\x1b[2K", stderr);
  bar_shown_ = false;
}

void RunFolder::say(const std::string& line) {
  if (display_ == Display::silent) return;
  const std::lock_guard<std::mutex> guard(mutex_);
  clear_bar();
  std::fprintf(stderr, "%s%s\n", label_.c_str(), printable(line).c_str());
}

void RunFolder::rewind(const std::string& name, int64_t step) {
  const std::lock_guard<std::mutex> guard(mutex_);
  const fs::path file = folder_ / "metrics.jsonl";
  std::string text;
  for (const Json& row : read_metrics(file))
    if (row["stage"].get<std::string>() != name || row["step"].get<int64_t>() <= step)
      text += row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  metrics_.reset();
  write_file_atomic(file, text);
  metrics_ = std::make_unique<LineAppender>(file);
  stages_.erase(name);
}

double RunFolder::seconds(const std::string& name) const {
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto it = stages_.find(name);
  return it == stages_.end() ? 0 : seconds_between(it->second.start, it->second.latest);
}

void RunFolder::finish() {
  const std::lock_guard<std::mutex> guard(mutex_);
  clear_bar();
  metrics_->sync();
  const std::vector<Json> rows = read_metrics(folder_ / "metrics.jsonl");
  write_summary(folder_ / "summary.csv", rows);
  write_events(folder_, rows);
}

}  // namespace realfake
