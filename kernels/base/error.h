#pragma once
// Errors that reach a person. Libraries throw; `main` catches once, prints `error: <what>` and
// exits with the code of the kind. Message form: `FILE: PLACE: found X, expected Y`.
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace realfake {

enum class ExitCode {
  ok = 0,
  usage = 2,
  bad_input = 3,
  io = 4,
  memory = 5,
  numeric = 6,
  locked = 7,
  gpu = 8,
  interrupted = 130,
  terminated = 143,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// One class per exit code, so that a test can ask for the kind.
template <ExitCode Code>
class ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(Code, message) {}
};
using UsageError = ErrorOf<ExitCode::usage>;
using InputError = ErrorOf<ExitCode::bad_input>;
using IoError = ErrorOf<ExitCode::io>;
using MemoryError = ErrorOf<ExitCode::memory>;
using NumericError = ErrorOf<ExitCode::numeric>;
using LockedError = ErrorOf<ExitCode::locked>;
using GpuError = ErrorOf<ExitCode::gpu>;

// A caller broke a contract of the library (wrong shape, wrong dtype). Never caused by a file.
class ContractError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

// concat("a ", 1, " b") == "a 1 b"
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// require(ok, "[op] expected ...", value): the message is built only when it is needed.
template <class... Parts>
void require(bool condition, const Parts&... message) {
  if (!condition) throw ContractError(concat(message...));
}

}  // namespace realfake
