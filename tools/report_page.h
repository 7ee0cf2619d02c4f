#pragma once
// report.html: one self-contained page about a run. No scripts, nothing is fetched, everything from
// files is escaped.
#include <filesystem>
#include <string>

namespace realfake {

// Reads RUN/results.json and writes RUN/report.html in one piece. InputError when results.json is
// missing or wrong; a picture folder or curve that cannot be read is named on the page instead.
void write_report(const std::filesystem::path& run_folder);

// The page as text.
std::string report_html(const std::filesystem::path& run_folder);

}  // namespace realfake
