#pragma once
// The built program running beside the test, to be watched, signalled and killed.
#include <signal.h>

#include <chrono>
#include <functional>
#include <thread>

#include "tests/tools/run_program.h"

namespace realfake::testing {

class BackgroundProgram {
 public:
  explicit BackgroundProgram(const std::vector<std::string>& arguments) {
    std::vector<std::string> words{REALFAKE_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, (dir_ / "out").c_str(),
                                     O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, (dir_ / "err").c_str(),
                                     O_WRONLY | O_CREAT, 0600);
    const int failed = posix_spawn(&child_, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) throw std::runtime_error(std::string("cannot start ") + argv[0]);
  }
  ~BackgroundProgram() {
    if (child_ > 0) end(SIGKILL);
  }
  BackgroundProgram(const BackgroundProgram&) = delete;
  BackgroundProgram& operator=(const BackgroundProgram&) = delete;

  pid_t id() const { return child_; }

  // Until `reached` says so or the program ends by itself; false in the second case, and after a
  // minute.
  bool wait_until(const std::function<bool()>& reached) {
    for (int i = 0; i < 30000; ++i) {
      if (reached()) return true;
      siginfo_t info{};
      if (waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
          info.si_pid == child_)
        return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return false;
  }

  // Sends the signal (0: none) and waits for the end.
  Outcome end(int signal = 0) {
    if (signal) kill(child_, signal);
    int status = 0;
    if (waitpid(child_, &status, 0) != child_) throw std::runtime_error("the program is lost");
    child_ = 0;
    Outcome outcome;
    outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    outcome.out = read_text(dir_ / "out");
    outcome.err = read_text(dir_ / "err");
    return outcome;
  }

 private:
  TempDir dir_;
  pid_t child_ = 0;
};

}  // namespace realfake::testing
