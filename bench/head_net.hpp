// The net of a classifier alone: embeddings "x" and labels "label" in, MarginSoftmax out. Included by
// bench/*.cpp only.
#pragma once

#include <string>

#include "crema.pb.h"
#include "crema/error.hpp"
#include "crema/io.hpp"

namespace crema {

struct HeadOptions {
  int64_t classes = 0, width = 512, batch = 0;
  double rate = 1;
  std::string fields;  // further ones of dist_partial_fc_param
  bool fuse = true;
};

inline NetParameter HeadNet(const HeadOptions& o) {
  const std::string text =
      Concat("force_backward: true fuse: ", o.fuse ? "true" : "false",
             " layer { name: 'in' type: 'Input' top: 'x' top: 'label' input_param { shape { dim: ", o.batch,
             " dim: ", o.width, " } shape { dim: ", o.batch, " } } }",
             " layer { name: 'fc' type: 'DistPartialFC' bottom: 'x' bottom: 'label' top: 'cos' top: 'own'",
             " dist_partial_fc_param { num_output: ", o.classes, " sample_rate: ", o.rate,
             " weight_filler { type: 'uniform' min: -0.0173 max: 0.0173 } ", o.fields, " } }",
             " layer { name: 'loss' type: 'MarginSoftmax' bottom: 'cos' bottom: 'own' top: 'loss'",
             " margin_softmax_param { m3: 0.4 } }");
  NetParameter spec;
  ParseText(text, "bench/head_net", &spec);
  return spec;
}

}  // namespace crema
