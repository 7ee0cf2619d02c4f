#include "tools/job_graph.h"

#include <omp.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <thread>

#include "kernels/base/sha256.h"
#include "train/run_folder.h"

namespace realfake {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

JobGraph::JobGraph(fs::path root, JobGraphOptions options)
    : root_(std::move(root)), options_(options) {
  fs::create_directories(root_);
}

void JobGraph::add(Job job) {
  Json key = {{"settings", job.settings}, {"after", Json::array()}};
  for (const std::string& name : job.after) {
    require(index_.contains(name), "[jobs] '", job.name, "' comes after '", name,
            "', which is not there");
    key["after"].push_back(states_[index_[name]].key);
  }
  require(!index_.contains(job.name), "[jobs] '", job.name, "' twice");
  index_[job.name] = states_.size();
  State s;
  s.key = sha256_hex(key.dump());
  s.job = std::move(job);
  states_.push_back(std::move(s));
}

void JobGraph::keep(const std::vector<std::string>& targets) {
  std::vector<bool> needed(states_.size(), false);
  for (const std::string& name : targets) needed[index_.at(name)] = true;
  for (size_t i = states_.size(); i-- > 0;)  // dependencies lie before the jobs that need them
    if (needed[i])
      for (const std::string& name : states_[i].job.after) needed[index_.at(name)] = true;
  std::vector<State> kept;
  for (size_t i = 0; i < states_.size(); ++i)
    if (needed[i]) kept.push_back(std::move(states_[i]));
  states_ = std::move(kept);
  index_.clear();
  for (size_t i = 0; i < states_.size(); ++i) index_[states_[i].job.name] = i;
}

bool JobGraph::load_done(State& s) {
  const fs::path file = folder(s.job.name) / "result.json";
  if (!fs::exists(file)) return false;
  const Json j = read_json(file);
  if (!j.contains("key") || j["key"] != s.key || !j.contains("result")) {
    fs::remove_all(folder(s.job.name));  // made with other settings
    return false;
  }
  s.result = j["result"];
  s.phase = State::done;
  seconds_[s.job.name] = j.contains("seconds") ? j["seconds"].get<double>() : 0;
  return true;
}

void JobGraph::print(const std::string& line) {
  if (!options_.quiet) std::fprintf(stderr, "%s\n", line.c_str());
}

void JobGraph::execute(State& s, Exec& exec) {
  const fs::path at = folder(s.job.name);
  fs::create_directories(at);
  RunFolder reporter(at, "", Display::silent, s.job.name);
  // A half-done job of other settings must not be gone on with.
  const fs::path mark = at / "key";
  if (!fs::exists(mark) || read_file(mark, 1000) != s.key) {
    for (const auto& entry : fs::directory_iterator(at))
      if (entry.path().filename() != ".lock" && entry.path().filename() != "metrics.jsonl")
        fs::remove_all(entry.path());
    write_file_atomic(mark, s.key);
  }
  JobContext context{exec, reporter, at, [&](const std::string& n) { return folder(n); },
                     [&](const std::string& n) -> const Json& { return result(n); }};
  const auto start = Clock::now();
  Json value = s.job.run(context);
  reporter.finish();
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  write_json_atomic(at / "result.json", {{"key", s.key}, {"seconds", seconds}, {"result", value}});
  const std::lock_guard lock(mutex_);
  s.result = std::move(value);
  seconds_[s.job.name] = seconds;
  spent_ += seconds;
}

void JobGraph::run() {
  for (State& s : states_)
    if (load_done(s)) ++reused_;
  const int total = static_cast<int>(states_.size()), wanted = total - reused_;
  if (reused_) print(concat(reused_, " of ", total, " jobs were done before"));
  std::condition_variable changed;
  std::exception_ptr fault;
  const auto begin = Clock::now();

  const auto ready = [&]() -> State* {
    for (State& s : states_) {
      if (s.phase != State::waiting) continue;
      bool ok = true;
      for (const std::string& name : s.job.after)
        ok = ok && states_[index_.at(name)].phase == State::done;
      if (ok) return &s;
    }
    return nullptr;
  };
  const auto all_done = [&] {
    for (const State& s : states_)
      if (s.phase != State::done) return false;
    return true;
  };
  const auto worker = [&] {
    omp_set_num_threads(options_.threads_per_job);
    std::unique_ptr<Exec> exec;
    std::unique_lock lock(mutex_);
    for (;;) {
      State* next = nullptr;
      changed.wait(lock, [&] { return fault || all_done() || (next = ready()) != nullptr; });
      if (fault || !next) return;
      next->phase = State::running;
      lock.unlock();
      std::exception_ptr mine;
      try {
        if (!exec) exec = std::make_unique<Exec>(options_.device);
        execute(*next, *exec);
      } catch (...) {
        mine = std::current_exception();
      }
      lock.lock();
      if (mine) {
        if (!fault) fault = mine;
        next->phase = State::waiting;
      } else {
        next->phase = State::done;
        ++finished_;
        const double wall = std::chrono::duration<double>(Clock::now() - begin).count();
        const double left = wall / finished_ * (wanted - finished_);
        char text[64];
        std::snprintf(text, sizeof text, "  %.1f s", seconds_[next->job.name]);
        std::string line = concat("[", reused_ + finished_, "/", total, "] ", next->job.name, text);
        if (next->result.contains("say")) line += "  " + next->result["say"].get<std::string>();
        if (finished_ < wanted) {
          std::snprintf(text, sizeof text, "   (about %d:%02d left)", static_cast<int>(left) / 60,
                        static_cast<int>(left) % 60);
          line += text;
        }
        print(line);
      }
      changed.notify_all();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < options_.workers; ++i) threads.emplace_back(worker);
  for (std::thread& t : threads) t.join();
  if (fault) std::rethrow_exception(fault);
}

const Json& JobGraph::result(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return states_[index_.at(name)].result;
}

std::string JobGraph::script() const {
  std::string out =
      "# The commands that do the same as the demo's jobs, one after the other (from the project's "
      "root).\n";
  for (const State& s : states_)
    if (!s.job.command.empty()) out += s.job.command + "\n";
  return out;
}

}  // namespace realfake
