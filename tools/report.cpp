// `realfake report RUN`: the page of a run, from its results.json.
#include <iostream>
#include <memory>

#include "kernels/base/file.h"
#include "tools/commands.h"
#include "tools/report_page.h"

namespace realfake {

Command make_report_command() {
  const auto run = std::make_shared<std::filesystem::path>();
  Command command;
  command.name = "report";
  command.summary = "one self-contained page, report.html, from the results.json of a run folder";
  command.example = "realfake report runs/demo";
  command.declare = [run](Options& options) {
    options.path("run", run.get(), "Run folder that holds results.json").positional().required();
  };
  command.run = [run](const Options&) {
    write_report(*run);
    std::cout << printable((*run / "report.html").string()) << "\n";
    return 0;
  };
  return command;
}

}  // namespace realfake
