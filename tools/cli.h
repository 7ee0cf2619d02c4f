#pragma once
// The command line of every command: options declared once by name, type and bounds, then read from
// the arguments and from
// `--config run.toml`. In option names `-` and `_` are the same. Whatever is wrong is a UsageError
// that names the option.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "kernels/exec.h"

namespace realfake {

class Options {
 public:
  // One declared option; the references that the declaring functions return hold until the next
  // declaration.
  class Option {
   public:
    Option& required() { return required_ = true, *this; }
    Option& positional() { return positional_ = true, *this; }  // `NAME` in place of `--name NAME`

   private:
    friend class Options;
    enum Kind { flag, integer, number, text, list };
    std::string name_, help_, bounds_, initial_;
    Kind kind_ = text;
    bool required_ = false, positional_ = false, given_ = false;
    // Takes the words as they were written; `where` begins the message: "--steps" or "run.toml:
    // steps".
    std::function<void(const std::string& where, const std::vector<std::string>&)> set_;
    std::function<std::string()> toml_;  // the value as TOML; empty when there is none
  };

  // What `to` holds when the option is declared is its default. Bounds are inclusive.
  Option& flag(const std::string& name, bool* to, const std::string& help);  // also --no_NAME
  Option& integer(const std::string& name, int64_t* to, int64_t low, int64_t high,
                  const std::string& help);
  Option& number(const std::string& name, double* to, double low, double high,
                 const std::string& help);
  Option& text(const std::string& name, std::string* to, const std::string& help,
               const std::vector<std::string>& choices = {});
  Option& path(const std::string& name, std::filesystem::path* to, const std::string& help);
  Option& paths(const std::string& name, std::vector<std::filesystem::path>* to,
                const std::string& help);
  Option& texts(const std::string& name, std::vector<std::string>* to, const std::string& help);

  // Was it on the command line or in the config file?
  bool given(const std::string& name) const;
  // Every option with its value, as a file that `--config` reads again.
  std::string resolved_toml() const;

  // For the frame: reads the arguments (false: --help was asked for), and the lines of the help.
  bool parse(const std::vector<std::string>& arguments, const std::string& command);
  std::string usage_line() const;
  std::string help() const;

 private:
  Option& add(const std::string& name, Option::Kind kind, const std::string& help);
  Option* find(const std::string& name);
  std::string hint(const std::string& name) const;
  std::vector<std::string> normalised(const std::vector<std::string>& arguments);
  void read_config(const std::filesystem::path& file);
  std::vector<Option> options_;
};

// `--device`, `--threads` and `--seed`, spelled alike in every command.
struct CommonOptions {
  std::string device = "cpu";
  int64_t threads = 0, seed = 0;
  void declare(Options& options, bool with_seed = true);
  // Sets the number of threads and opens the device.
  Exec open() const;
};

// Two words ("verify forward") make a command of a group.
struct Command {
  std::string name, summary, example;
  std::function<void(Options&)> declare;
  std::function<int(const Options&)> run;  // the exit code, as a rule 0
};

// Finds the command, reads its options, runs it. Prints help where asked.
int run_command_line(const std::vector<Command>& commands,
                     const std::vector<std::string>& arguments);

// The candidate most like `word`, or empty when none is near.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace realfake
