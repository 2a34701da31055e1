// Floor 6. RunPlan: what a training run takes of memory, disk and network, found without running it, without
// its weights and without reading more of its data than one image. Called by tools and by embedders.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "crema.pb.h"
#include "crema/layer.hpp"

namespace crema {

struct PlanOptions {
  int ranks = 1;        // that all do alike
  int64_t classes = 0;  // identities; 0: as many as the net says
  Shape image = {};     // C, H, W that the data layers give; empty: that of the first record of their data
  std::optional<DistPartialFCParameter::Precision> precision = {};  // where not as the net says
  std::optional<DistPartialFCParameter::Storage> storage = {};
  Device* device = nullptr;  // that the run is on, whose layouts and workspaces are planned; null: the CPU
};

struct RunPlan {
  std::string net;
  int ranks = 1, threads = 1;        // threads of this process, as of each rank
  int64_t batch = 0, iter_size = 1;  // samples of a rank and pass, passes of an iteration
  int64_t classes = 0, rows = 0;     // identities, and those of rank 0; 0 without a DistPartialFC
  int64_t width = 0;                 // numbers of a class centre
  DistPartialFCParameter head = {};  // as planned

  // Bytes on rank 0, which has the most. What is replicated leaves the class centres out.
  int64_t weights = 0, weight_grads = 0, weight_state = 0;
  int64_t activations = 0;  // data and gradients of blobs
  int64_t batches = 0;      // of data, made ahead
  int64_t workspace = 0;    // of layers other than the head
  int64_t centres = 0, centre_state = 0;
  std::vector<MemoryPart> head_parts;  // what the head works with
  int64_t head_workspace() const;
  // Of the centres and their state, what lies in files, and the most of it that is resident at a time.
  int64_t in_files = 0, resident = 0;
  int64_t on_host = 0;  // in the memory of a GPU's host
  // Of the device, so without what is on its host.
  int64_t memory() const;

  std::vector<Collective> collectives;  // of an iteration; empty for one rank
};

// Throws Error for what the run would refuse before it reads data, and where images have no known size.
RunPlan PlanRun(const SolverParameter& spec, const PlanOptions& options);

// The most identities for which a rank takes no more than so many bytes, to within a thousandth; 0 where not
// even one fits, kNoBound where it is not memory that bounds them.
constexpr int64_t kNoBound = int64_t{10} * 1000 * 1000 * 1000;  // more than there are people
int64_t MostIdentities(const SolverParameter& spec, const PlanOptions& options, int64_t bytes);

// The plan as text, and how many identities fit into `device_memory` bytes per rank, for each precision and
// storage that the device has.
std::string DescribePlan(const RunPlan& plan);
std::string DescribeMostIdentities(const SolverParameter& spec, const PlanOptions& options,
                                   int64_t device_memory);

// "32GB" and "24.5 GiB" in bytes; powers of 1000 and 1024. Throws Error for anything else.
int64_t ParseBytes(const std::string& text);

}  // namespace crema
