// Looks into a folder of class centres, or makes another one of it for a changed set of identities.
#include <gflags/gflags.h>

#include <iostream>
#include <sstream>

#include "solver/center_files.hpp"
#include "solver/center_tools.hpp"
#include "tool.hpp"

DEFINE_string(folder, "", "A folder of class centres: <prefix>_iter_N.centers of a snapshot.");
DEFINE_string(weight, "", "Which of its weights, such as classes.0; needed where there are several.");
DEFINE_int32(sample, 2000, "Classes, spread evenly, among which the closest pairs are looked for.");
DEFINE_int32(pairs, 10, "How many of the closest pairs to print.");
DEFINE_string(extract, "", "Classes whose rows to write to --npy: numbers and ranges, such as 0-9,77.");
DEFINE_string(npy, "", "Where to write them, as numpy's float32 array [classes, numbers].");
DEFINE_string(
    map, "",
    "Text file, line i: what class i of the new folder is made of, one old class or several to be averaged, "
    "or new.");
DEFINE_string(out, "", "The new folder.");

namespace {

using namespace crema;

std::vector<int64_t> ParseClasses(const std::string& text) {
  std::vector<int64_t> classes;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) {
    int64_t first = 0, last = 0;
    char dash = 0, rest = 0;
    std::istringstream numbers(part);
    const bool has_first = static_cast<bool>(numbers >> first);
    last = first;
    const bool has_range = static_cast<bool>(numbers >> dash);
    const bool whole = has_first && (!has_range || (dash == '-' && numbers >> last)) && !(numbers >> rest);
    Require(whole && first >= 0 && first <= last && last - first < 1 << 24, "--extract has '", part,
            "' where a class or a range such as 0-9 was expected");
    for (int64_t c = first; c <= last; ++c) classes.push_back(c);
  }
  return classes;
}

std::string Stem() {
  if (!FLAGS_weight.empty()) return FLAGS_weight;
  const std::vector<std::string> stems = CentersStems(FLAGS_folder);
  Require(!stems.empty(), "the folder '", FLAGS_folder, "' has no header (.txt) of class centres");
  Require(stems.size() == 1, "the folder '", FLAGS_folder, "' has ", stems.size(), " weights, the first '",
          stems[0], "'; --weight says which");
  return stems[0];
}

void Run() {
  Require(!FLAGS_folder.empty(), "--folder is missing: a folder of class centres.");
  Require(FLAGS_extract.empty() == FLAGS_npy.empty(), "--extract and --npy go together.");
  Require(FLAGS_map.empty() == FLAGS_out.empty(), "--map and --out go together.");
  Require(FLAGS_sample >= 0 && FLAGS_sample <= 20000, "--sample is ", FLAGS_sample, "; expected 0 to 20000.");
  Require(FLAGS_pairs >= 0, "--pairs is ", FLAGS_pairs, "; expected 0 or more.");
  const std::string stem = Stem();
  Workplace place;
  if (!FLAGS_extract.empty()) ExtractCenters(FLAGS_folder, stem, ParseClasses(FLAGS_extract), FLAGS_npy);
  if (!FLAGS_map.empty()) RemapCenters(place, FLAGS_folder, stem, FLAGS_map, FLAGS_out);
  if (FLAGS_extract.empty() && FLAGS_map.empty())
    std::cout << stem << ": "
              << ToText(SummariseCenters(place, FLAGS_folder, stem, FLAGS_sample,
                                         static_cast<size_t>(FLAGS_pairs)));
}

}  // namespace

int main(int argc, char** argv) {
  gflags::SetUsageMessage(
      "summarises, extracts or remaps class centres: centers --folder=RUN_iter_N.centers");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RunTool("centers", nullptr, [&] {
    Require(argc == 1, "centers takes flags only and was given '", argc > 1 ? argv[1] : "", "'.");
    Run();
    return 0;
  });
}
