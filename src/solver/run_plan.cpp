#include "crema/run_plan.hpp"

#include <algorithm>
#include <filesystem>
#include <set>

#include "crema/head.hpp"
#include "crema/parallel.hpp"
#include "net/data_layer.hpp"
#include "net/filter.hpp"
#include "net/summary.hpp"
#include "solver/mixed_precision.hpp"
#include "solver/net_specs.hpp"
#include "solver/optimizer.hpp"
#include "solver/reducer.hpp"

namespace crema {
namespace {

// Stands for the optimiser, so that layers know whether it would take their rows at once.
class PlannedRule final : public RowRule {
 public:
  explicit PlannedRule(const SolverParameter& spec)
      : immediate_(Optimizer::UpdatesRowsAtOnce(spec)),
        one_pass_(spec.iter_size() == 1),
        slots_(Optimizer::SlotsFor(spec, Param{})) {}
  bool immediate() const override { return immediate_; }
  bool one_pass() const override { return one_pass_; }
  void CatchUp(const Context&, const RowSet&) override { Refuse(); }
  bool catches_up() const override { return false; }
  std::vector<Tensor> State() const override { return std::vector<Tensor>(slots_); }
  void Update(const Context&, const RowSet&, const void*, const void*, const void*) override { Refuse(); }

 private:
  [[noreturn]] static void Refuse() { Fail("rows of a plan were to be updated, which has none"); }

  bool immediate_, one_pass_;
  size_t slots_;
};

// Sets the head's parameters that the options want otherwise; returns how many heads there are.
int ChangeHeads(const PlanOptions& options, NetParameter* net) {
  int heads = 0;
  for (LayerParameter& layer : *net->mutable_layer()) {
    if (layer.type() != "DistPartialFC") continue;
    ++heads;
    DistPartialFCParameter& head = *layer.mutable_dist_partial_fc_param();
    if (options.classes > 0) head.set_num_output(options.classes);
    if (options.precision) head.set_precision(*options.precision);
    if (options.storage) head.set_storage(*options.storage);
  }
  return heads;
}

// Sees that the data can tell the size of its images.
void CheckData(const LayerParameter& layer) {
  const std::string& source =
      layer.has_image_data_param() ? layer.image_data_param().source() : layer.data_param().source();
  Require(
      source.empty() || std::filesystem::exists(source), "layer '", layer.name(), "' (", layer.type(),
      "): there is no '", source,
      "' to take the size of the images from; run this where it is, or give the size C,H,W that the layer "
      "makes of them (--image=3,112,112)");
}

// The net as it is to be built: where the size of images is given, sources become Inputs, whose batches are
// counted here. `sources` counts them.
NetParameter ReadyNet(const NetSpec& from, const PlanOptions& options, int* sources, RunPlan* plan) {
  NetParameter net = FilterNet(from.net, from.options);
  for (const LayerParameter& layer : net.layer()) {
    if (!IsSource(layer)) continue;
    ++*sources;
    if (options.image.empty()) {
      CheckData(layer);
      continue;
    }
    const bool list = layer.has_image_data_param();
    const int64_t batch = SourceBatch(layer),
                  prefetch = list ? layer.image_data_param().prefetch() : layer.data_param().prefetch();
    plan->batches +=
        DataLayer::BatchBytes({batch, options.image[0], options.image[1], options.image[2]}, prefetch);
  }
  return options.image.empty()
             ? net
             : ReplaceSources(net, {0, options.image[0], options.image[1], options.image[2]});
}

// Params that no net before this one had.
void AddParams(const SolverParameter& spec, const Net& net, bool trains, std::set<const Param*>* seen,
               RunPlan* plan) {
  for (const Param* param : net.params()) {
    if (!seen->insert(param).second) continue;
    const int64_t slots = trains ? static_cast<int64_t>(Optimizer::SlotsFor(spec, *param)) : 0;
    const int64_t bytes = param->bytes(), state = slots * bytes;
    (param->sharded ? plan->centres : plan->weights) += bytes;
    (param->sharded ? plan->centre_state : plan->weight_state) += state;
    if (param->memory != nullptr) {
      plan->in_files += bytes + state;
      plan->resident += std::min(param->memory->resident_bytes(), bytes + state);
    }
    if (param->on_host) plan->on_host += bytes + state;
    if (slots > 0 && param->row_sparse)
      plan->head_parts.push_back({"last updates of rows", RowUpdater::BytesFor(*param)});
  }
}

int64_t SumOf(const std::vector<MemoryPart>& parts) {
  int64_t sum = 0;
  for (const MemoryPart& part : parts) sum += part.bytes;
  return sum;
}

bool IsHead(const Layer& layer) {
  return std::any_of(layer.params().begin(), layer.params().end(),
                     [](const auto& param) { return param->sharded; });
}

// Row gradients of several passes are there three times while they are added up: those so far, a pass's, and
// their sum.
void AddWorkspaces(const Context& ctx, const Net& net, int64_t iter_size, RunPlan* plan) {
  int64_t scratch = 0;
  for (const Net::Step& step : net.steps()) {
    const Workspace space = step.layer->WorkspaceFor(ctx, step.bottom, step.top);
    if (IsHead(*step.layer)) {
      plan->head_parts.insert(plan->head_parts.end(), space.kept.begin(), space.kept.end());
      plan->head_parts.push_back({"gradients of rows drawn", space.row_grads * (iter_size > 1 ? 3 : 1)});
      plan->head_parts.push_back({"for a moment", space.scratch});
    } else if (step.layer->IsSource()) {
      plan->batches += SumOf(space.kept);
    } else {
      plan->workspace += SumOf(space.kept);
      scratch = std::max(scratch, space.scratch);
    }
  }
  plan->workspace += scratch;
}

void AddCollectives(const Context& ctx, const Net& net, DType gradients, RunPlan* plan) {
  const auto add = [&](Collective one) {
    if (one.bytes > 0) plan->collectives.push_back(std::move(one));
  };
  for (const Collective& one : GradientReducer::CollectivesFor(net.params(), gradients)) add(one);
  for (const Net::Step& step : net.steps()) {
    for (Collective one : step.layer->Collectives(ctx, step.bottom, step.top)) {
      one.bytes *= plan->iter_size;
      add(std::move(one));
    }
  }
}

void DescribeHead(const Net& net, RunPlan* plan) {
  for (const auto& layer : net.layers()) {
    if (layer->type() != "DistPartialFC") continue;
    plan->head = layer->spec().dist_partial_fc_param();
    const Param& centres = layer->param(0);
    plan->classes = centres.total_rows, plan->rows = centres.row_count(), plan->width = centres.row_length();
  }
}

}  // namespace

int64_t RunPlan::head_workspace() const {
  return SumOf(head_parts);
}

int64_t RunPlan::memory() const {
  return weights + weight_grads + weight_state + activations + batches + workspace + centres + centre_state -
         in_files + resident - on_host + head_workspace();
}

RunPlan PlanRun(const SolverParameter& spec, const PlanOptions& options) {
  const std::unique_ptr<Device> cpu = options.device == nullptr ? NewCpuDevice() : nullptr;
  const std::unique_ptr<Communicator> comm = NewImaginedCommunicator(options.ranks);
  Context ctx;
  ctx.device = cpu != nullptr ? cpu.get() : options.device;
  ctx.comm = comm.get();
  Scratch scratch(*ctx.device);
  ctx.scratch = &scratch;
  ctx.seed = spec.random_seed() < 0 ? 0 : static_cast<uint64_t>(spec.random_seed());
  ctx.activations = ActivationsOf(spec, ctx.real);
  Require(spec.iter_size() > 0, "the solver's iter_size is ", spec.iter_size(), ", at least 1 was expected");
  RunPlan plan;
  plan.ranks = options.ranks, plan.threads = Workers(ctx), plan.iter_size = spec.iter_size();

  std::vector<NetSpec> specs = TestNetSpecs(spec);
  specs.insert(specs.begin(), TrainNetSpec(spec));
  PlannedRule rule(spec);
  std::vector<std::unique_ptr<Net>> nets;
  std::set<const Param*> seen;
  int sources = 0;
  for (NetSpec& one : specs) {
    const bool trains = nets.empty();
    const int heads = ChangeHeads(options, &one.net);
    Require(heads > 0 || !trains || options.classes == 0,
            "the training net has no DistPartialFC, whose number of identities could be set");
    one.options.dry = true;
    one.options.share = trains ? nullptr : nets[0].get();
    nets.push_back(std::make_unique<Net>(ctx, ReadyNet(one, options, &sources, &plan), one.options));
    const Net& net = *nets.back();
    for (Param* param : net.params())
      if (param->row_sparse) param->rule = &rule;
    AddParams(spec, net, trains, &seen, &plan);
    AddWorkspaces(ctx, net, trains ? plan.iter_size : 1, &plan);
    plan.activations += net.plan().arena + net.plan().inputs;
  }
  Require(options.image.empty() || sources > 0,
          "the size of images is given, but the nets have no layer that reads images");
  const Net& training = *nets[0];
  plan.net = training.name(), plan.batch = training.batch_size();
  plan.weight_grads = training.plan().param_grads;
  DescribeHead(training, &plan);
  const DType exchange = GradientExchangeOf(spec);
  if (plan.ranks > 1) AddCollectives(ctx, training, exchange, &plan);
  if (plan.ranks > 1 && Has16Bits(exchange))
    plan.workspace += GradientReducer::CollectivesFor(training.params(), exchange)[0].bytes;
  return plan;
}

int64_t MostIdentities(const SolverParameter& spec, const PlanOptions& options, int64_t bytes) {
  const auto memory_for = [&](int64_t classes) {
    PlanOptions changed = options;
    changed.classes = classes;
    return PlanRun(spec, changed).memory();
  };
  int64_t fits = 1, too_many = kNoBound, with_fits = memory_for(fits);
  if (with_fits > bytes) return 0;
  int64_t with_too_many = memory_for(too_many);
  if (with_too_many <= bytes) return kNoBound;
  // Memory grows in straight pieces, so a straight line through both ends soon hits; a little beside it, on
  // either side in turn, closes the interval.
  for (int turn = 0; too_many - fits > std::max<int64_t>(1, fits / 1000); ++turn) {
    const double share =
        static_cast<double>(bytes - with_fits) / static_cast<double>(with_too_many - with_fits);
    const double line = static_cast<double>(fits) + share * static_cast<double>(too_many - fits);
    const int64_t guess = turn % 3 == 2 ? fits + (too_many - fits) / 2
                                        : static_cast<int64_t>(line * (turn % 3 == 0 ? 1.0004 : 0.9996));
    const int64_t classes = std::clamp(guess, fits + 1, too_many - 1), memory = memory_for(classes);
    if (memory <= bytes) {
      fits = classes, with_fits = memory;
    } else {
      too_many = classes, with_too_many = memory;
    }
  }
  return fits;
}

}  // namespace crema
