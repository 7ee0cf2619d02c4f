#include "tools/cli.h"

#include <omp.h>
#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>

#include "kernels/base/file.h"
#include "kernels/base/text.h"

namespace realfake {
namespace {

std::string dashes_to_underscores(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

template <class T>
std::string number_text(T v) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, v).ptr;
  return {buffer, end};
}

template <class T>
bool read_number(const std::string& word, T& v) {
  const char* end = word.data() + word.size();
  const auto r = std::from_chars(word.data(), end, v);
  return r.ec == std::errc() && r.ptr == end;
}

std::string toml_number(double v) {
  std::string s = number_text(v);
  if (s.find_first_of(".e") == std::string::npos) s += ".0";
  return s;
}

std::string toml_text(const std::string& text) {
  const std::string clean = valid_utf8_prefix(text) == text.size() ? text : printable(text);
  std::string out = "\"";
  for (const char c : clean) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(byte));
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + '"';
}

template <class Items>
std::string toml_list(const Items& items) {
  std::string out = "[";
  for (const auto& item : items) {
    if (out.size() > 1) out += ", ";
    out += toml_text(std::filesystem::path(item).string());
  }
  return out + "]";
}

[[noreturn]] void refuse(const std::string& where, const std::string& found,
                         const std::string& expected) {
  throw UsageError(concat(where, " is '", printable(found), "', expected ", expected));
}

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string out;
  for (const std::string& word : words) {
    if (!out.empty()) out += separator;
    out += word;
  }
  return out;
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
  std::string best;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    std::vector<size_t> row(candidate.size() + 1);  // Levenshtein distance, one row at a time
    for (size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j < row.size(); ++j) {
        const size_t above = row[j];
        row[j] = std::min(
            {above + 1, row[j - 1] + 1, diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1)});
        diagonal = above;
      }
    }
    if (row.back() < least) {
      least = row.back();
      best = candidate;
    }
  }
  return best;
}

// Declaring
// ----------------------------------------------------------------------------------------

Options::Option& Options::add(const std::string& name, Option::Kind kind, const std::string& help) {
  require(name.find('-') == std::string::npos, "[options] '", name, "' is declared with a dash");
  require(!find(name) && name != "config" && name != "help", "[options] '", name, "' twice");
  Option o;
  o.name_ = name;
  o.kind_ = kind;
  o.help_ = help;
  options_.push_back(std::move(o));
  return options_.back();
}

Options::Option& Options::flag(const std::string& name, bool* to, const std::string& help) {
  Option& o = add(name, Option::flag, help);
  o.initial_ = *to ? "true" : "false";
  o.set_ = [to](const std::string& where, const std::vector<std::string>& v) {
    if (v[0] != "true" && v[0] != "false") refuse(where, v[0], "true or false");
    *to = v[0] == "true";
  };
  o.toml_ = [to] { return std::string(*to ? "true" : "false"); };
  return o;
}

Options::Option& Options::integer(const std::string& name, int64_t* to, int64_t low, int64_t high,
                                  const std::string& help) {
  Option& o = add(name, Option::integer, help);
  o.initial_ = number_text(*to);
  o.bounds_ = concat(low, "..", high);
  o.set_ = [to, low, high, bounds = o.bounds_](const std::string& where,
                                               const std::vector<std::string>& v) {
    int64_t value = 0;
    if (!read_number(v[0], value) || value < low || value > high) refuse(where, v[0], bounds);
    *to = value;
  };
  o.toml_ = [to] { return number_text(*to); };
  return o;
}

Options::Option& Options::number(const std::string& name, double* to, double low, double high,
                                 const std::string& help) {
  Option& o = add(name, Option::number, help);
  o.initial_ = number_text(*to);
  o.bounds_ = concat(number_text(low), "..", number_text(high));
  o.set_ = [to, low, high, bounds = o.bounds_](const std::string& where,
                                               const std::vector<std::string>& v) {
    double value = 0;
    if (!read_number(v[0], value) || !std::isfinite(value) || value < low || value > high)
      refuse(where, v[0], bounds);
    *to = value;
  };
  o.toml_ = [to] { return toml_number(*to); };
  return o;
}

Options::Option& Options::text(const std::string& name, std::string* to, const std::string& help,
                               const std::vector<std::string>& choices) {
  Option& o = add(name, Option::text, help);
  o.initial_ = *to;
  o.bounds_ = joined(choices, "|");
  o.set_ = [to, choices](const std::string& where, const std::vector<std::string>& v) {
    if (!choices.empty() && std::find(choices.begin(), choices.end(), v[0]) == choices.end())
      refuse(where, v[0], joined(choices, ", "));
    *to = v[0];
  };
  o.toml_ = [to] { return to->empty() ? std::string() : toml_text(*to); };
  return o;
}

Options::Option& Options::path(const std::string& name, std::filesystem::path* to,
                               const std::string& help) {
  Option& o = add(name, Option::text, help);
  o.initial_ = to->string();
  o.set_ = [to](const std::string& where, const std::vector<std::string>& v) {
    if (v[0].empty()) refuse(where, v[0], "a path");
    *to = v[0];
  };
  o.toml_ = [to] { return to->empty() ? std::string() : toml_text(to->string()); };
  return o;
}

Options::Option& Options::paths(const std::string& name, std::vector<std::filesystem::path>* to,
                                const std::string& help) {
  Option& o = add(name, Option::list, help);
  o.set_ = [to](const std::string& where, const std::vector<std::string>& v) {
    for (const std::string& word : v)
      if (word.empty()) refuse(where, word, "a path");
    to->assign(v.begin(), v.end());
  };
  o.toml_ = [to] { return to->empty() ? std::string() : toml_list(*to); };
  return o;
}

Options::Option& Options::texts(const std::string& name, std::vector<std::string>* to,
                                const std::string& help) {
  Option& o = add(name, Option::list, help);
  o.initial_ = joined(*to, " ");
  o.set_ = [to](const std::string&, const std::vector<std::string>& v) { *to = v; };
  o.toml_ = [to] { return to->empty() ? std::string() : toml_list(*to); };
  return o;
}

// Reading
// ------------------------------------------------------------------------------------------

Options::Option* Options::find(const std::string& name) {
  for (Option& o : options_)
    if (o.name_ == name) return &o;
  return nullptr;
}

bool Options::given(const std::string& name) const {
  for (const Option& o : options_)
    if (o.name_ == name) return o.given_;
  throw ContractError(concat("[options] '", name, "' is not declared"));
}

std::string Options::hint(const std::string& name) const {
  std::vector<std::string> names{"config", "help"};
  for (const Option& o : options_) names.push_back(o.name_);
  const std::string near = nearest(name, names);
  return near.empty() ? "" : concat("; did you mean '", near, "'?");
}

// CLI11 tells `--snr-gamma` from `--snr_gamma`, and takes `--steps=` for an option without a value:
// names get underscores, and NAME=VALUE becomes two words. Words that are an option's value are
// left alone.
std::vector<std::string> Options::normalised(const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  bool value_follows = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (value_follows || word.size() < 3 || word.compare(0, 2, "--") != 0) {
      words.push_back(word);
      value_follows = false;
      continue;
    }
    const size_t equals = word.find('=');
    const std::string name = dashes_to_underscores(word.substr(2, equals - 2));
    const Option* o = find(name);
    const bool takes_value = (o && o->kind_ != Option::flag) || name == "config";
    if (equals == std::string::npos) {
      words.push_back("--" + name);
      value_follows = takes_value;
    } else if (takes_value) {
      words.push_back("--" + name);
      words.push_back(word.substr(equals + 1));
    } else {
      words.push_back("--" + name + word.substr(equals));
    }
  }
  return words;
}

bool Options::parse(const std::vector<std::string>& arguments, const std::string& command) {
  CLI::App app;
  app.set_help_flag();
  app.allow_extras();
  CLI::Option* help = app.add_flag("--help,-h");
  CLI::Option* config =
      app.add_option("--config")->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  std::vector<CLI::Option*> handles;
  for (const Option& o : options_) {
    CLI::Option* handle = nullptr;
    if (o.kind_ == Option::flag) {
      handle = app.add_flag("--" + o.name_ + ",!--no_" + o.name_);
    } else {
      handle = app.add_option(o.positional_ ? o.name_ : "--" + o.name_);
      if (o.kind_ == Option::list)
        handle->expected(1, 1 << 20);
      else
        handle->expected(1);
    }
    handles.push_back(handle->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
  }
  try {
    std::vector<std::string> words = normalised(arguments);
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    app.parse(words);
  } catch (const CLI::ParseError& e) {
    // What CLI11 still finds is an option whose value is not there: "--steps: 1 required TEXT
    // missing".
    const std::string text = e.what();
    throw UsageError(concat(
        command, ": ", printable(text.substr(0, text.find(':'))),
        dynamic_cast<const CLI::ArgumentMismatch*>(&e) ? " has no value" : ": not understood"));
  }
  if (help->count() > 0) return false;
  for (const std::string& word : app.remaining()) {
    if (word.size() > 1 && word[0] == '-') {
      const std::string name = dashes_to_underscores(
          word.substr(word[1] == '-' ? 2 : 1, word.find('=') - (word[1] == '-' ? 2 : 1)));
      throw UsageError(
          concat(command, ": unknown option '", printable(word), "'", printable(hint(name))));
    }
    throw UsageError(concat(command, ": unexpected argument '", printable(word), "'"));
  }
  const auto once = [](const CLI::Option* handle, const std::string& name) {
    if (handle->results().size() > 1)
      throw UsageError(concat("--", name, " is given ", handle->results().size(), " times"));
  };
  for (size_t i = 0; i < options_.size(); ++i) {
    Option& o = options_[i];
    if (handles[i]->count() == 0) continue;
    if (o.kind_ != Option::list) once(handles[i], o.name_);
    o.set_(o.positional_ ? o.name_ : "--" + o.name_, handles[i]->results());
    o.given_ = true;
  }
  once(config, "config");
  if (config->count() > 0) read_config(config->results()[0]);
  for (const Option& o : options_)
    if (o.required_ && !o.given_)
      throw UsageError(concat(command, ": ", o.positional_ ? "" : "--", o.name_, " is missing"));
  return true;
}

// toml++ reports what it knows of a file; an option that the command line gave keeps that value.
void Options::read_config(const std::filesystem::path& file) {
  const std::string where = printable(file.string());
  const std::string text = read_file(file, 1 << 20);
  toml::table table;
  try {
    table = toml::parse(text, file.string());
  } catch (const toml::parse_error& e) {
    throw InputError(concat(where, ": line ", e.source().begin.line, ": ",
                            printable(std::string(e.description()))));
  }
  for (const auto& [key, node] : table) {
    const std::string name = dashes_to_underscores(std::string(key.str()));
    const std::string place = concat(where, ": ", printable(name));
    Option* o = find(name);
    if (!o)
      throw UsageError(concat(where, ": line ", node.source().begin.line, ": unknown key '",
                              printable(name), "'", printable(hint(name))));
    std::vector<std::string> words;
    const auto unexpected = [&](const char* expected) {
      throw UsageError(concat(place, " is of another type, expected ", expected));
    };
    switch (o->kind_) {
      case Option::flag:
        if (!node.is_boolean()) unexpected("true or false");
        words.push_back(node.as_boolean()->get() ? "true" : "false");
        break;
      case Option::integer:
        if (!node.is_integer()) unexpected("an integer");
        words.push_back(number_text(node.as_integer()->get()));
        break;
      case Option::number:
        if (node.is_integer())
          words.push_back(number_text(node.as_integer()->get()));
        else if (node.is_floating_point())
          words.push_back(number_text(node.as_floating_point()->get()));
        else
          unexpected("a number");
        break;
      case Option::text:
        if (!node.is_string()) unexpected("a string");
        words.push_back(node.as_string()->get());
        break;
      case Option::list:
        if (node.is_string()) {
          words.push_back(node.as_string()->get());
          break;
        }
        if (!node.is_array()) unexpected("a list of strings");
        for (const auto& item : *node.as_array()) {
          if (!item.is_string()) unexpected("a list of strings");
          words.push_back(item.as_string()->get());
        }
        break;
    }
    if (o->given_) continue;
    o->set_(place, words);
    o->given_ = true;
  }
}

// Showing
// ------------------------------------------------------------------------------------------

std::string Options::resolved_toml() const {
  std::string out;
  for (const Option& o : options_) {
    const std::string value = o.toml_();
    out += value.empty() ? concat("# ", o.name_, " is not set\n")
                         : concat(o.name_, " = ", value, "\n");
  }
  return out;
}

std::string Options::usage_line() const {
  std::string out;
  for (const Option& o : options_) {
    if (o.positional_)
      out += concat(" ", o.name_);
    else if (o.required_)
      out += concat(" --", o.name_, " ...");
  }
  return out + " [options]";
}

std::string Options::help() const {
  std::ostringstream out;
  const auto line = [&](std::string left, const std::string& right) {
    left = "  " + left;
    if (left.size() < 34)
      left.resize(34, ' ');
    else
      left += "\n" + std::string(34, ' ');
    out << left << right << '\n';
  };
  constexpr const char* kinds[] = {"", " N", " X", " TEXT", " TEXT..."};
  for (const Option& o : options_) {
    std::string right = o.help_;
    std::string left = o.positional_ ? o.name_ : "--" + o.name_;
    if (o.kind_ == Option::text && !o.bounds_.empty())
      left += " " + o.bounds_;
    else if (!o.positional_)
      left += kinds[o.kind_];
    if (o.required_)
      right += " (required)";
    else if (!o.initial_.empty() && o.initial_ != "false")
      right += " [" + o.initial_ + "]";
    line(left, right);
  }
  line("--config FILE", "options from a TOML file, NAME = VALUE; the command line wins");
  line("--help", "this text");
  return out.str();
}

// The frame
// ----------------------------------------------------------------------------------------

void CommonOptions::declare(Options& options, bool with_seed) {
  options.text("device", &device, "where to compute", {"cpu", "cuda", "emulated"});
  options.integer("threads", &threads, 0, 1024, "CPU threads; 0: all");
  if (with_seed) options.integer("seed", &seed, 0, INT64_MAX, "of every random draw");
}

Exec CommonOptions::open() const {
  if (threads > 0) omp_set_num_threads(static_cast<int>(threads));
  return Exec(parse_device(device));
}

namespace {

// Commands of which `group` is the first of two words; all when it is empty.
std::string command_list(const std::vector<Command>& commands, const std::string& group) {
  std::string out;
  for (const Command& c : commands) {
    if (!group.empty() && c.name.compare(0, group.size() + 1, group + " ") != 0) continue;
    std::string name = "  " + c.name;
    name.resize(std::max<size_t>(name.size() + 2, 20), ' ');
    out += name + c.summary + "\n";
  }
  return out;
}

bool asks_for_help(const std::string& word) {
  return word == "--help" || word == "-h" || word == "help";
}

}  // namespace

int run_command_line(const std::vector<Command>& commands,
                     const std::vector<std::string>& arguments) {
  if (arguments.empty()) throw UsageError("no command\nhint: 'realfake --help' lists the commands");
  if (asks_for_help(arguments[0])) {
    std::cout << "realfake: adapt a diffusion model to a dataset, make training data with it, "
                 "measure what that data is worth\n\n"
                 "usage: realfake COMMAND [options]\n\n"
              << command_list(commands, "") << "\n'realfake COMMAND --help' shows the options.\n";
    return 0;
  }
  const std::string first = arguments[0], second = arguments.size() > 1 ? arguments[1] : "";
  const Command* found = nullptr;
  size_t used = 1;
  bool group = false;
  std::vector<std::string> names, seconds;
  for (const Command& c : commands) {
    const size_t space = c.name.find(' ');
    names.push_back(c.name.substr(0, space));
    if (c.name == first) found = &c;
    if (space == std::string::npos || names.back() != first) continue;
    group = true;
    seconds.push_back(c.name.substr(space + 1));
    if (seconds.back() == second) {
      found = &c;
      used = 2;
    }
  }
  if (!found && group) {
    if (asks_for_help(second)) {
      std::cout << "usage: realfake " << first << " COMMAND [options]\n\n"
                << command_list(commands, first);
      return 0;
    }
    throw UsageError(
        concat(first, second.empty() ? " is alone" : concat(": unknown '", printable(second), "'"),
               ", expected one of ", joined(seconds, ", ")));
  }
  if (!found) {
    const std::string near = nearest(first, names);
    throw UsageError(concat("unknown command '", printable(first), "'",
                            near.empty() ? "" : concat("; did you mean '", near, "'?")));
  }
  Options options;
  found->declare(options);
  if (!options.parse({arguments.begin() + static_cast<std::ptrdiff_t>(used), arguments.end()},
                     found->name)) {
    std::cout << found->name << ": " << found->summary << "\n\nusage: realfake " << found->name
              << options.usage_line() << "\n\n"
              << options.help();
    if (!found->example.empty()) std::cout << "\nexample: " << found->example << "\n";
    return 0;
  }
  return found->run(options);
}

}  // namespace realfake
