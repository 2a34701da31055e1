// Floor 6. Looking into a folder of class centres, and moving it to another set of identities. Called by the
// tool `centers`.
#pragma once

#include <string>
#include <vector>

#include "crema/context.hpp"

namespace crema {

struct CloseClasses {
  int64_t a, b;
  double cosine;
};

struct CentersSummary {
  int64_t rows = 0, dim = 0;
  std::string dtype;
  std::vector<std::string> quantities;
  double least_norm = 0, median_norm = 0, greatest_norm = 0;
  int64_t not_finite = 0;           // rows with a value that is not finite
  std::vector<int64_t> last_drawn;  // ten spans of equal length up to `last_iteration`, oldest first
  int64_t never_drawn = 0, last_iteration = 0;
  int64_t sampled = 0;                // classes that were compared with one another
  std::vector<CloseClasses> closest;  // pairs of them, the greatest cosine first
};

// Of one weight of the folder, all rows read once, on all threads. `sample` classes, spread evenly, are
// compared. Throws Error for files that are not what the header says.
CentersSummary SummariseCenters(const Context& ctx, const std::string& folder, const std::string& stem,
                                int64_t sample, size_t pairs);
std::string ToText(const CentersSummary& summary);

// Rows of the given classes, in this order, as a float32 array [classes, dim] in numpy's format (.npy 1.0).
void ExtractCenters(const std::string& folder, const std::string& stem, const std::vector<int64_t>& classes,
                    const std::string& npy);

// Writes a new folder whose class i is what line i of the map file says: the number of an old class, the
// numbers of several, whose rows are averaged, or `new`, a fresh row of random direction and of the old rows'
// median norm. The state of new rows is zero. Throws Error, naming the line, for a class that is not there,
// and where the new folder exists.
void RemapCenters(const Context& ctx, const std::string& folder, const std::string& stem,
                  const std::string& map, const std::string& new_folder);

}  // namespace crema
