// Floor 3, the evaluation wing. What a training log in Caffe's form says. Called by the tool report.
#pragma once

#include "eval/plot.hpp"

namespace crema {

struct TrainingLog {
  TrainingCurve loss, rate;                 // "Iteration N (...), loss = x" and "Iteration N, lr = x"
  std::vector<TrainingCurve> test_outputs;  // "Test net output #k: name = x" of each test pass
  double iterations_per_second = 0;         // the last one that the log gives; 0 where it gives none
};

// Lines of other forms are passed over, as are those of earlier iterations that a resumed run repeats. Throws
// Error where the file cannot be read or has no loss.
TrainingLog ReadTrainingLog(const std::string& path);

// One sentence: iterations, first and last loss.
std::string Summary(const TrainingLog& log);

}  // namespace crema
