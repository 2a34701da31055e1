// Rewrites a face-recognition net: its classifier, with or without a margin, becomes DistPartialFC and
// MarginSoftmax.
#include <cmath>
#include <iostream>
#include <set>

#include "crema/caffe_files.hpp"
#include "crema/io.hpp"
#include "crema/net.hpp"
#include "net/margin_product.hpp"
#include "tool.hpp"

DEFINE_double(sample_rate, 1, "Share of the identities that takes part in an iteration.");
DEFINE_double(scale, 0, "Factor of the cosines; 0: that of the net, or 64 where it has none of its own.");

namespace {

using namespace crema;

constexpr double kUsualScale = 64;

// The head found: what the loss leads to, layer by layer down to the classifier, and what it comes to.
struct Head {
  int loss = -1, classifier = -1;
  std::set<int> layers;  // that go, by number
  std::string embedding, label;
  int64_t classes = 0;
  double scale = 0, m1 = 1, m2 = 0, m3 = 0;  // scale 0: none of its own
  bool has_margin = false;
  bool is_plain = false;  // neither a margin nor cosines
  bool keeps_weights = true;
  std::vector<std::string> remarks;

  void Remark(const LayerParameter& layer, const std::string& what) {
    remarks.push_back(Concat(layer.type(), " '", layer.name(), "': ", what));
  }
  void Multiply(double factor) {
    scale = (scale == 0 ? 1 : scale) * factor;
    m3 /= factor;  // of an addition behind the scale
  }
};

bool IsOneOf(const std::string& type, std::initializer_list<const char*> types) {
  for (const char* one : types)
    if (type == one) return true;
  return false;
}

float Rounded(double value) {
  return static_cast<float>(std::round(value * 1e4) / 1e4);
}

int MakerOf(const NetParameter& net, const std::string& blob, int before) {
  for (int i = before; i-- > 0;)
    for (const std::string& top : net.layer(i).top())
      if (top == blob) return i;
  return -1;
}

bool Learns(const LayerParameter& layer) {
  return layer.param_size() == 0 || layer.param(0).lr_mult() != 0;
}

void TakeLabelSpecificAdd(const LayerParameter& layer, Head* head) {
  const LabelSpecificAddParameter& p = layer.label_specific_add_param();
  head->m3 -= p.has_bias_base() ? (p.bias_gamma() < 0 ? p.bias_min() : p.bias_max()) : p.bias();
  head->Remark(layer, Concat("m3: ", head->m3,
                             p.has_bias_base() ? ", from the start; there the margin grew up to this" : ""));
}

// A layer between the classifier and the loss; false for one that cannot be there.
bool TakeMargin(const LayerParameter& layer, Head* head) {
  const std::string& type = layer.type();
  if (type == "Scale" && layer.bottom_size() == 1) {
    head->Multiply(layer.scale_param().filler().value());
    head->Remark(layer, Concat("scale: ", head->scale,
                               Learns(layer) ? ", where the net began; here it is not learnt" : ""));
    return true;
  }
  if (type == "ChannelScale") {
    head->Remark(layer,
                 "the embedding's own length was the factor of its cosines; here it is the same for all");
    return true;
  }
  head->has_margin = true;
  if (type == "LabelSpecificAdd") {
    TakeLabelSpecificAdd(layer, head);
  } else if (type == "CosinAddm") {
    head->m2 = layer.cosin_add_m_param().m();
    head->Remark(layer, Concat("m2: ", head->m2));
  } else if (type == "CombinedMargin") {
    const CombinedMarginParameter& p = layer.combined_margin_param();
    head->m1 = p.m1(), head->m2 = p.m2(), head->m3 = p.m3();
    head->Remark(layer, Concat("m1: ", head->m1, ", m2: ", head->m2, ", m3: ", head->m3));
  } else if (type == "AdaCosAddmScale") {
    head->m2 = 0.5;
    head->scale = -1;  // that of AdaCos, which the number of classes gives
    head->Remark(
        layer, "m2: 0.5 and AdaCos's fixed scale, sqrt(2) ln(identities - 1); there both came of the batch");
  } else if (type == "GlobalLSEMargin") {
    head->m3 = 0.35;
    head->Remark(layer, "m3: 0.35 stands for a margin that came of the batch");
  } else {
    return false;
  }
  return true;
}

// The factor m1 of the angle for which cos(m1 theta) is (lambda cos(theta) + psi(theta)) / (1 + lambda) at 60
// degrees. The whole margin m from the start, without lambda, has embeddings and classes fall into one point.
double FactorBesideLambda(int m, double lambda) {
  const double cosine = 0.5, mixed = (lambda * cosine + AngularMargin{m}.Value(cosine)) / (1 + lambda);
  return mixed > -1 ? std::acos(mixed) / std::acos(cosine) : m;
}

// An InnerProduct, whose scores become cosines where they are not.
void TakeInnerProduct(const LayerParameter& layer, Head* head) {
  const InnerProductParameter& p = layer.inner_product_param();
  head->classes = p.num_output();
  head->is_plain = !p.normalize() && !head->has_margin;
  if (head->is_plain)
    head->Remark(layer,
                 "its scores were products with the lengths of embedding and class; here they are cosines, "
                 "without a margin, which m2: 0.5 or m3: 0.35 in margin_softmax_param would give them");
  head->keeps_weights = !p.bias_term() && !p.transpose();
  if (!head->keeps_weights)
    head->Remark(layer, Concat("old weights do not start the classes, which therefore have another name: ",
                               p.bias_term() ? "cosines have no bias" : "they are transposed"));
}

// The classifier, with its own margin where it has one; false for another layer.
bool TakeClassifier(const LayerParameter& layer, Head* head) {
  if (layer.type() == "InnerProduct" && layer.bottom_size() == 1) {
    TakeInnerProduct(layer, head);
    return true;
  }
  if (!IsOneOf(layer.type(), {"MarginInnerProduct", "LargeMarginInnerProduct"})) return false;
  const bool large = layer.type() == "LargeMarginInnerProduct";
  const MarginInnerProductParameter& p =
      large ? layer.largemargin_inner_product_param() : layer.margin_inner_product_param();
  head->has_margin = true;
  head->classes = p.num_output();
  head->m1 = FactorBesideLambda(p.type() + 1, p.lambda_min());
  head->Remark(layer, Concat("m1: ", Rounded(head->m1),
                             ", from the start, which at 60 degrees is the margin that m = ", p.type() + 1,
                             " came to at the end, with ", p.lambda_min(),
                             " parts of the plain cosine (lambda_min) to one of the margin's"));
  head->Remark(layer,
               "the embedding's own length was the factor of its cosines; here it is the same for all");
  return true;
}

// Normalize layers below the classifier go where nobody else reads them: DistPartialFC does the same.
void TakeNormalize(const NetParameter& net, Head* head) {
  const int maker = MakerOf(net, head->embedding, head->classifier);
  if (maker < 0 ||
      !IsOneOf(net.layer(maker).type(), {"Normalize", "NormL2", "L2Norm", "L2Normalization", "L2Normalize"}))
    return;
  const LayerParameter& normalize = net.layer(maker);
  for (int i = maker + 1; i < net.layer_size(); ++i) {
    if (head->layers.count(i) > 0) continue;
    for (const std::string& bottom : net.layer(i).bottom())
      if (bottom == normalize.top(0)) return;
  }
  head->layers.insert(maker);
  head->embedding = normalize.bottom(0);
  head->Remark(normalize, "DistPartialFC brings embeddings to unit length itself");
}

// Follows a loss down to the classifier; false where it leads elsewhere.
bool Follow(const NetParameter& net, int loss, Head* head) {
  const LayerParameter& layer = net.layer(loss);
  if (layer.bottom_size() < 2) return false;
  *head = Head();
  head->loss = loss;
  head->label = layer.bottom(1);
  head->layers = {loss};
  if (layer.type() != "SoftmaxWithLoss") head->Remark(layer, "MarginSoftmax's loss does not weigh samples");
  std::string blob = layer.bottom(0);
  for (int at = loss;;) {
    at = MakerOf(net, blob, at);
    if (at < 0) return false;
    head->layers.insert(at);
    if (TakeClassifier(net.layer(at), head)) {
      head->classifier = at;
      break;
    }
    if (!TakeMargin(net.layer(at), head)) return false;
    blob = net.layer(at).bottom(0);
  }
  head->embedding = net.layer(head->classifier).bottom(0);
  TakeNormalize(net, head);
  return true;
}

// The first head with a margin or cosines, or else the only plain classifier.
Head FindHead(const NetParameter& net, const std::string& from) {
  std::vector<Head> plain;
  bool has_loss = false;
  for (int i = 0; i < net.layer_size(); ++i) {
    if (!IsOneOf(net.layer(i).type(), {"SoftmaxWithLoss", "FocalLoss", "SoftmaxWithFocalLoss"})) continue;
    has_loss = true;
    Head head;
    if (!Follow(net, i, &head)) continue;
    if (!head.is_plain) return head;
    if (plain.empty() || plain.back().classifier != head.classifier) plain.push_back(head);
  }
  Require(has_loss, from, " has no SoftmaxWithLoss or FocalLoss; expected a net for training a classifier");
  Require(
      !plain.empty(), from,
      " has no classifier that can be spread: none of its softmax losses leads, through layers such as "
      "LabelSpecificAdd, CosinAddm and Scale, to an InnerProduct or MarginInnerProduct with weights of its "
      "own");
  Require(plain.size() == 1, from, " has ", plain.size(), " classifiers without a margin, '",
          net.layer(plain.front().classifier).name(), "' to '", net.layer(plain.back().classifier).name(),
          "', where one was expected; remove the softmax losses of the others");
  return plain.front();
}

// What reads a blob that goes goes too: Accuracy layers, mostly.
void DropReaders(const NetParameter& net, Head* head) {
  std::set<std::string> gone;
  for (int i = 0; i < net.layer_size(); ++i) {
    const LayerParameter& layer = net.layer(i);
    bool reads = false;
    for (const std::string& bottom : layer.bottom()) reads = reads || gone.count(bottom) > 0;
    if (reads && head->layers.insert(i).second)
      head->Remark(layer,
                   "what it reads is not there as a whole; VerificationAccuracy measures on pairs of images");
    for (const std::string& top : layer.top()) {
      if (head->layers.count(i) == 0)
        gone.erase(top);
      else if (top != head->embedding)
        gone.insert(top);
    }
  }
}

double ScaleOf(const Head& head) {
  if (FLAGS_scale > 0) return FLAGS_scale;
  if (head.scale < 0) return std::sqrt(2.0) * std::log(static_cast<double>(head.classes - 1));
  return head.scale > 0 ? head.scale : kUsualScale;
}

std::vector<LayerParameter> NewLayers(const NetParameter& net, const Head& head) {
  const LayerParameter &old = net.layer(head.classifier), &old_loss = net.layer(head.loss);
  LayerParameter classes, loss;
  classes.set_name(head.keeps_weights ? old.name() : old.name() + "_centers");
  classes.set_type("DistPartialFC");
  classes.add_bottom(head.embedding);
  classes.add_bottom(head.label);
  classes.add_top(old.name() + "_cosine");
  classes.add_top(old.name() + "_label");
  *classes.mutable_include() = old_loss.include();
  *classes.mutable_exclude() = old_loss.exclude();
  if (old.param_size() > 0) *classes.add_param() = old.param(0);
  classes.mutable_dist_partial_fc_param()->set_num_output(head.classes);
  classes.mutable_dist_partial_fc_param()->set_sample_rate(static_cast<float>(FLAGS_sample_rate));
  loss.set_name(old_loss.name());
  loss.set_type("MarginSoftmax");
  *loss.mutable_bottom() = classes.top();
  if (old_loss.top_size() > 0) loss.add_top(old_loss.top(0));
  if (old_loss.top_size() == 0) loss.add_top(old_loss.name());
  if (old_loss.loss_weight_size() > 0) loss.add_loss_weight(old_loss.loss_weight(0));
  *loss.mutable_include() = old_loss.include();
  *loss.mutable_exclude() = old_loss.exclude();
  MarginSoftmaxParameter& margin = *loss.mutable_margin_softmax_param();
  margin.set_scale(Rounded(ScaleOf(head)));
  if (head.m1 != 1) margin.set_m1(Rounded(head.m1));
  if (head.m2 != 0) margin.set_m2(Rounded(head.m2));
  if (head.m3 != 0) margin.set_m3(Rounded(head.m3));
  return {classes, loss};
}

std::string LayerText(const LayerParameter& layer) {
  NetParameter alone;
  *alone.add_layer() = layer;
  return ToText(alone);
}

int Run(const std::string& path) {
  Require(FLAGS_sample_rate >= 0 && FLAGS_sample_rate <= 1, "--sample_rate is ", FLAGS_sample_rate,
          " where a number from 0 to 1 was expected");
  Require(FLAGS_scale >= 0, "--scale is ", FLAGS_scale, " where a positive number was expected");
  // What is not known may be in the part that goes.
  const NetParameter net = ReadNet(path, {.lenient = true, .say = PrintNote("to_partial_fc")});
  Head head = FindHead(net, path);
  Require(head.classes > 0, path, ": the classifier '", net.layer(head.classifier).name(),
          "' has no num_output");
  DropReaders(net, &head);
  NetParameter rest = net;
  rest.clear_layer();
  std::string text = ToText(rest);
  for (int i = 0; i < net.layer_size(); ++i) {
    if (i == head.loss) {
      text += "# In place of the classifier and the loss of " + path + ":\n";
      for (const std::string& remark : head.remarks) text += "#   " + remark + "\n";
      for (const LayerParameter& layer : NewLayers(net, head)) text += LayerText(layer);
    }
    if (head.layers.count(i) == 0) text += LayerText(net.layer(i));
  }
  std::cout << text;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StartTool(&argc, &argv, "to_partial_fc [--sample_rate=1] [--scale=64] NET > NEW");
  if (argc != 2)
    return UsageError("to_partial_fc", Concat("found ", argc - 1, " arguments where a net was expected"));
  return RunTool("to_partial_fc", nullptr, [&] { return Run(argv[1]); });
}
