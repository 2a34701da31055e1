// Floor 4. What a net is made of: shapes, parameters, multiply-adds. Called by the plan of a run, by
// tools/check_net.cpp and by tests.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "crema/net.hpp"

namespace crema {

// Whether a layer draws its data from outside the net: Data, ImageData, HDF5Data and MemoryData, and those of
// Caffe and its forks that are not here, such as WindowData.
bool IsSource(const LayerParameter& layer);

// The net with its sources replaced by Input layers of the same tops, so that it can be built without data:
// the images (the first top, of HDF5Data the first one named so) have shape `image`, N, C, H, W, the others
// (labels) N elements. For a 0 there the source itself is asked: its batch_size; its channels, new_height,
// crop_size and so on, where it does not tell 3 channels and 112 by 112. `tops` has the shapes of blobs that
// are to have another, with 0 for N.
NetParameter ReplaceSources(const NetParameter& spec, const Shape& image,
                            const std::map<std::string, Shape>& tops = {});

// The batch_size of a source.
int64_t SourceBatch(const LayerParameter& source);

// Types of the net's layers that are not there, by name, each once.
std::vector<std::string> MissingTypes(const NetParameter& spec);

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
