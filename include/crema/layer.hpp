// Floor 4. Layer: the contract every layer keeps, and the registry. Included by layers/*.cpp and by the net.
//
// The contract, tested for every layer by tests/contract_test.cpp:
//  * Reshape gives the tops' types and shapes from the bottoms' and declares the params. It may be called
//  again
//    whenever a bottom's shape changed; it sees no memory. A top whose size is only known in Forward gets its
//    largest shape here and the true one there (Blob::Reshape, then BindShape).
//  * Forward writes the data of every top and nothing else (statistics and bounded weights excepted).
//  * Backward WRITES the gradient of each bottom with needs_grad(), ADDS to the gradient of each param with
//    needs_grad(), changes no data, and reads, besides the tops' gradients, the bottoms' shapes and the
//    params, only the data that BackwardReads() names. The memory of all other data may have been reused.
//  * Tops never share memory with bottoms.
//  * The gradients of blobs of 16 bits are times ctx.grad_scale; those of params and of other blobs are not.
//  * A loss is the mean over the global batch, the same number on every rank; gradients are those of that
//  mean.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "crema/blob.hpp"
#include "crema/context.hpp"
#include "crema/float16.hpp"

namespace crema {

// Data that Backward reads.
enum class Reads { kNothing = 0, kBottom = 1, kTop = 2, kBoth = 3 };

// Which layouts of four-axis bottoms a layer takes. The net reorders bottoms that do not fit.
enum class Layouts {
  kSame,    // any, all four-axis bottoms in that of the first; works element by element or by channel
  kCaffe,   // N, C, H, W only (block 1): the order of elements has a meaning
  kDevice,  // each bottom as the device prefers it for its number of channels
};

// Whether a layer computes on blobs of 16 bits, in mixed precision. The net casts bottoms that do not fit.
enum class Bits16 {
  kNo,       // all bottoms are of the context's real type
  kFollows,  // takes them, and makes tops of the same type or of the real one, but is no reason for a cast
  kWants,    // is faster on them
};

struct MemoryPart {
  std::string what;
  int64_t bytes = 0;
};
// Bytes that the passes of a layer take besides blobs, params and what an optimiser keeps; for the plan of a
// run.
struct Workspace {
  std::vector<MemoryPart> kept = {};  // from pass to pass
  int64_t scratch = 0;    // the most at a time: of the context's scratch memory, or gone at a call's end
  int64_t row_grads = 0;  // gradients by rows that wait for the optimiser
};

class Layer {
 public:
  explicit Layer(const LayerParameter& spec) : spec_(spec) {}
  virtual ~Layer() = default;

  const LayerParameter& spec() const { return spec_; }
  LayerParameter* mutable_spec() { return &spec_; }  // for the net: new sizes of an Input layer
  const std::string& name() const { return spec_.name(); }
  const std::string& type() const { return spec_.type(); }
  Phase phase() const { return spec_.phase(); }  // TRAIN or TEST, set by the net

  // How many bottoms and tops it takes, both ends included; -1 is no upper bound.
  struct Arity {
    int min_bottom = 1, max_bottom = 1, min_top = 1, max_top = 1;
  };
  virtual Arity arity() const { return {}; }
  virtual Layouts layouts() const { return Layouts::kSame; }
  virtual Bits16 bits16() const { return Bits16::kNo; }
  virtual Reads BackwardReads() const { return Reads::kNothing; }
  // Whether a gradient can be asked for this bottom; false for labels.
  virtual bool BottomHasGradient(int /*index*/) const { return true; }
  // A loss layer's first top has loss_weight 1 where the prototxt gives none.
  virtual bool IsLoss() const { return false; }
  // Whether Forward draws its data from outside the net (Data, ImageData).
  virtual bool IsSource() const { return false; }
  // Whether its tops hold a measure over all batches since pass 0 (VerificationAccuracy): a test pass then
  // reports the last batch's values instead of the mean over the batches.
  virtual bool AccumulatesOverPass() const { return false; }
  // Whether it takes bottoms whose classes are spread over the ranks (Placement::kClass).
  virtual bool TakesClassPlacement() const { return false; }
  // What it has to say since it was last asked, for the log; empty: nothing.
  virtual std::string Note() { return ""; }
  // Multiply-adds of one Forward at the present shapes; 0 where they do not count.
  virtual int64_t MultiplyAdds(const Blobs& /*bottom*/, const Blobs& /*top*/) const { return 0; }

  // What a pass, Backward included where the tops' gradients are wanted, takes and exchanges at the present
  // shapes; small change may be left out.
  virtual Workspace WorkspaceFor(const Context& /*ctx*/, const Blobs& /*bottom*/,
                                 const Blobs& /*top*/) const {
    return {};
  }
  virtual std::vector<Collective> Collectives(const Context& /*ctx*/, const Blobs& /*bottom*/,
                                              const Blobs& /*top*/) const {
    return {};
  }

  virtual void Reshape(const Context& ctx, const Blobs& bottom, const Blobs& top) = 0;
  virtual void Forward(const Context& ctx, const Blobs& bottom, const Blobs& top) = 0;
  virtual void Backward(const Context& ctx, const Blobs& top, const Blobs& bottom);  // default: throws

  // A cheap layer may let the net drop its top after the last Forward that reads it and ask for it again
  // before the first Backward that does: the same values, from the same bottoms, without touching any state.
  virtual bool CanRecompute() const { return false; }
  virtual void Recompute(const Context& ctx, const Blobs& bottom, const Blobs& top) {
    Forward(ctx, bottom, top);
  }

  // Declared by Reshape; weights first in Caffe's order. Shared params are the same object in several layers.
  std::vector<std::shared_ptr<Param>>& params() { return params_; }
  const std::vector<std::shared_ptr<Param>>& params() const { return params_; }
  Param& param(size_t index) { return *params_[index]; }

 protected:
  // Declares param number `index` (in order) or, when Reshape runs again, checks that its shape is still the
  // same.
  Param& AddParam(size_t index, DType dtype, Shape shape, const FillerParameter& filler,
                  Param::Kind kind = Param::Kind::kWeight);
  // Throws Error: "layer 'conv1' (Convolution): ...".
  template <class... Parts>
  void Check(bool ok, const Parts&... parts) const {
    if (!ok) Fail("layer '", name(), "' (", type(), "): ", Concat(parts...));
  }

  // By what sums of gradients of such a blob become those of a param.
  static double ParamGradFactor(const Context& ctx, const Blob& blob) {
    return Has16Bits(blob.dtype()) ? 1 / ctx.grad_scale : 1;
  }

 private:
  LayerParameter spec_;
  std::vector<std::shared_ptr<Param>> params_;
};

// A filler of the given type, for a layer's own defaults.
FillerParameter ConstantFiller(float value);
// Fills the param's value by its filler, keyed by (ctx.seed, the param's name, `pass`, the element's global
// index).
void FillParam(const Context& ctx, Param* param, int64_t pass = 0);

// ------------------------------------------------------------------------------------------------- registry

struct LayerType {
  std::string name;
  std::vector<std::string> param_fields;  // LayerParameter's message fields that belong to this type
  std::function<std::unique_ptr<Layer>(const LayerParameter&)> make;
};

// All registered types by name. Filled before main() by the macro below, constant afterwards.
const std::vector<const LayerType*>& LayerTypes();
// Makes a layer. Throws Error for an unknown type (naming the nearest known one) and for a parameter message
// that does not belong to the type.
std::unique_ptr<Layer> NewLayer(const LayerParameter& spec);

struct LayerRegistration {
  explicit LayerRegistration(LayerType type);
};

// CREMA_REGISTER_LAYER(PReLU, "prelu_param"): type string = class name = file name; then the parameter
// fields.
#define CREMA_REGISTER_LAYER(Class, ...)                                                                   \
  const ::crema::LayerRegistration registration_of_##Class(                                                \
      {#Class, {__VA_ARGS__}, [](const ::crema::LayerParameter& spec) -> std::unique_ptr<::crema::Layer> { \
         return std::make_unique<Class>(spec);                                                             \
       }})

// ------------------------------------------------------------------------------------------------- labels

// Class labels in whatever type a blob has them: i64 from the data layers, real numbers from an Input layer.
struct Labels {
  const void* data;
  DType dtype;
  CREMA_HD int64_t operator[](int64_t i) const {
    if (dtype == DType::kI64) return static_cast<const int64_t*>(data)[i];
    if (dtype == DType::kF32) return static_cast<int64_t>(static_cast<const float*>(data)[i]);
    return static_cast<int64_t>(static_cast<const double*>(data)[i]);
  }
};
Labels LabelsOf(const Blob& blob);  // throws Error unless i64, f32 or f64

}  // namespace crema
