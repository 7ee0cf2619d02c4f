// The one place where errors end: `error: ...` on stderr and the exit code of the kind.
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <new>

#include "kernels/base/error.h"
#include "tools/commands.h"
#include "train/run_folder.h"

namespace {

int fail(realfake::ExitCode code, const char* message) {
  std::fprintf(stderr, "error: %s\n", message);
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  using realfake::ExitCode;
  try {
    const int code = realfake::run_command_line(realfake::all_commands(),
                                                {argv + (argc > 0 ? 1 : 0), argv + argc});
    std::cout.flush();
    if (!std::cout) return fail(ExitCode::io, "standard output: cannot be written");
    return code;
  } catch (const realfake::Error& e) {
    return fail(e.code() == ExitCode::interrupted ? realfake::stop_exit_code() : e.code(),
                e.what());
  } catch (const std::filesystem::filesystem_error& e) {
    return fail(ExitCode::io, e.what());
  } catch (const std::bad_alloc&) {
    return fail(ExitCode::memory, "out of memory\nhint: a smaller batch needs less");
  } catch (const std::exception& e) {  // a ContractError: a fault of this program, not of its input
    return fail(static_cast<ExitCode>(1), realfake::concat("internal: ", e.what()).c_str());
  }
}
