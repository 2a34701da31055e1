// Floor 3, the evaluation wing. Pictures of a training run and of a verification, as the bytes of PNG files.
// Called by the tools evaluate and report.
#pragma once

#include "crema/eval.hpp"

namespace crema {

// TAR over FAR, the FAR on a logarithmic axis from half of what one different pair is worth; a step function.
std::string DrawRoc(const Verification& verification);

// Histograms of the same and the different pairs' distances, and the threshold.
std::string DrawScores(const std::vector<double>& distance, const std::vector<uint8_t>& same,
                       double threshold);

// Something over iterations.
struct TrainingCurve {
  std::string label;
  std::vector<double> iteration, value;
};
// The first curve in pale ink with its running mean over it, the others as lines with dots. Throws Error
// where there is no finite value.
std::string DrawTraining(const std::string& title, const std::string& axis,
                         const std::vector<TrainingCurve>& curves, bool log_axis, bool smooth_first);

// Pairs of images under headings, each with its distance, framed green where the verdict is right and red
// where not.
struct PairPicture {
  std::string first, second;  // encoded images (JPEG, PNG)
  double distance = 0;
  bool right = true;
};
struct PairSection {
  std::string heading;
  std::vector<PairPicture> pairs;
};
// Throws Error for an image that does not decode. Sections without pairs are left out.
std::string DrawPairs(const std::string& title, const std::vector<PairSection>& sections);

}  // namespace crema
