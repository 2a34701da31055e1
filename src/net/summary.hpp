// Floor 4. What a net is made of: shapes, parameters, multiply-adds. Called by the plan of a run, by
// tools/check_net.cpp and by tests.
#pragma once

#include <string>
#include <vector>

#include "crema/net.hpp"

namespace crema {

// The net with its sources (Data, ImageData) replaced by Input layers of the same tops, so that it can be
// built without data: the first top has shape `image`, the others (labels) have image[0] elements. Where
// image[0] is 0, each source's own batch_size stands for it.
NetParameter ReplaceSources(const NetParameter& spec, const Shape& image);

// The batch_size of a source.
int64_t SourceBatch(const LayerParameter& source);

struct LayerSummary {
  std::string name, type;
  std::vector<std::string> tops;    // "conv1 1x64x56x56"
  std::vector<std::string> params;  // "64x3x3x3"; statistics in brackets
  int64_t weights = 0;              // learnt values, each counted in the first layer that has it
  int64_t multiply_adds = 0;        // of one forward pass
};

// In the order in which the net runs them; reorders that the net made for itself are left out.
std::vector<LayerSummary> SummaryOf(const Net& net);
// The same as a table with totals and the memory plan.
std::string SummaryTable(const Net& net);

}  // namespace crema
