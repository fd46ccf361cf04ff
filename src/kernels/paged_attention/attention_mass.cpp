// How much rows attend to each token: one product of queries with a page's keys, and the weights
// that the rows' sums of exponentials make of it. No row's scores outlive a page.

#include <algorithm>
#include <vector>

#include "core/check.h"
#include "core/parallel.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/paged_attention/attention_mass.cpp"
// The loop over targets comes first.
// clang-format off
#include <hwy/foreach_target.h>
#include "kernels/paged_attention/page_products-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace adze::kernels::HWY_NAMESPACE {
namespace {

// Rows of a product: their scores [96, 32] stay in the first-level cache.
constexpr int64_t kRowsAtOnce = 96;
// Pages that a thread takes at once, so that queries are gathered once for them.
constexpr int64_t kPagesAtOnce = 8;

struct Buffers {
  std::vector<float> query;        // [rows * group, head_dim], scaled
  std::vector<float> coded_query;  // in the basis of coded pages
  std::vector<float> scores;       // [kRowsAtOnce, 32]
  PageScratch scratch;
};

void gather(const PagedAttention& attention,
            const AttentionMass& mass,
            int64_t kv_head,
            Buffers& buffers) {
  const AttentionShape& shape = attention.shape;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t count = mass.rows * group;
  buffers.query.resize(static_cast<size_t>(count * shape.head_dim));
  for (int64_t m = 0; m < count; ++m) {
    const float* source =
        mass.query + (m / group * shape.heads + kv_head * group + m % group) * shape.head_dim;
    for (int64_t dim = 0; dim < shape.head_dim; ++dim) {
      buffers.query[static_cast<size_t>(m * shape.head_dim + dim)] = source[dim] * shape.scale;
    }
  }
  buffers.coded_query.resize(buffers.query.size());
  if (attention.codec != nullptr && attention.codec->changes_keys() && mass.side != nullptr) {
    attention.codec->query_to_basis(
        mass.side, kv_head, count, buffers.query.data(), buffers.coded_query.data());
  }
}

void add_page(const PagedAttention& attention,
              const AttentionMass& mass,
              int64_t kv_head,
              int64_t page,
              Buffers& buffers) {
  const AttentionShape& shape = attention.shape;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t first_token = page * kPageTokens;
  const int64_t tokens = std::min(kPageTokens, mass.tokens - first_token);
  const PageSource source{mass.pages[page], mass.page_types[page], page, mass.side};
  // Continues the sum so far, a row after the other: it does not depend on how rows come in.
  HWY_ALIGN float sums[kPageTokens] = {};
  for (int64_t token = 0; token < tokens; ++token) {
    sums[token] = mass.mass.at(kv_head, first_token + token);
  }
  const float share = 1.0F / static_cast<float>(group);
  for (int64_t first = 0; first < mass.rows * group; first += kRowsAtOnce) {
    const int64_t count = std::min(kRowsAtOnce, mass.rows * group - first);
    const int64_t place = first * shape.head_dim;
    score_page(attention,
               source,
               kv_head,
               {count, buffers.query.data() + place, buffers.coded_query.data() + place},
               nullptr,
               buffers.scores.data(),
               kPageTokens,
               buffers.scratch);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = (first + i) / group;
      const int64_t begin =
          mass.begin_ranks == nullptr
              ? 0
              : mass.begin_ranks[kv_head * mass.begin_head_stride + row] - first_token;
      const int64_t end = std::min<int64_t>(mass.end_ranks[row] - first_token, tokens);
      if (end <= std::max<int64_t>(begin, 0)) {
        continue;
      }
      float* scores = buffers.scores.data() + i * kPageTokens;
      if (shape.softcap != 0) {
        cap_softly(scores, kPageTokens, shape.softcap);
      }
      const int64_t head = kv_head * group + (first + i) % group;
      const Vector shift = hn::Set(kFloats, mass.log_sum_exp[row * shape.heads + head]);
      for (int64_t token = 0; token < kPageTokens; token += kLanes) {
        hn::StoreU(hn::Exp(kFloats, hn::Sub(load(scores + token), shift)), kFloats, scores + token);
      }
      const float weight = share * (mass.row_weights == nullptr ? 1.0F : mass.row_weights[row]);
      for (int64_t token = std::max<int64_t>(begin, 0); token < end; ++token) {
        sums[token] += weight * scores[token];
      }
    }
  }
  for (int64_t token = 0; token < tokens; ++token) {
    mass.mass.at(kv_head, first_token + token) = sums[token];
  }
}

void add_mass(const PagedAttention& attention, const AttentionMass& mass) {
  const int64_t pages = (mass.tokens + kPageTokens - 1) / kPageTokens;
  const int64_t parts = (pages + kPagesAtOnce - 1) / kPagesAtOnce;
  core::parallel_items(attention.shape.kv_heads * parts, 1, [&](int64_t item) {
    static thread_local Buffers buffers;  // declared here: of the thread that runs this
    const int64_t kv_head = item / parts;
    buffers.scores.resize(kRowsAtOnce * kPageTokens);
    buffers.scratch.prepare(kRowsAtOnce, attention.shape.head_dim);
    gather(attention, mass, kv_head, buffers);
    const int64_t first = item % parts * kPagesAtOnce;
    for (int64_t page = first; page < std::min(first + kPagesAtOnce, pages); ++page) {
      add_page(attention, mass, kv_head, page, buffers);
    }
  });
}

}  // namespace
}  // namespace adze::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace adze::kernels {
namespace {

HWY_EXPORT(add_mass);

}  // namespace

void attention_mass(const PagedAttention& attention, const AttentionMass& mass) {
  core::check(mass.rows >= 0 && mass.tokens >= 0, "rows and tokens of a mass");
  if (mass.rows > 0 && mass.tokens > 0) {
    HWY_DYNAMIC_DISPATCH(add_mass)(attention, mass);
  }
}

}  // namespace adze::kernels
#endif
