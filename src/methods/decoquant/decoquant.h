#pragma once
// A cache of 1 to 8 bits: Liu et al., "Unlocking data-free low-bit quantization with matrix
// decomposition for KV cache compression" (DecoQuant), arXiv:2405.12591. Keys and values are a
// large factor, which is rounded, times a small one, which is exact and takes the wide ranges.
//
// Form `plus` is the one to use. Its small factor is fixed from a slot's first 256 tokens: for keys
// the spread of each channel and the radius of its rotary pair, for values a Hadamard matrix, a
// mean and spreads. Channels of keys that matter more get more bits. README.md has the reasons and
// the measurements; forms `a` and `b` are the paper's two, page by page, for comparison.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/paged_attention/page_codec.h"
#include "kv/cache_registry.h"

namespace adze::methods::decoquant {

struct DecoQuantOptions {
  int64_t bits = 4;
  std::string form = "plus";
  int64_t chunk = 16;  // m of form a

  void validate() const;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("bits", self.bits, "bits a number, on average: 1 (form plus only), 2, 3, 4 or 8");
    visit("form", self.form, "plus, or the paper's a (chunks of channels) or b (transposed)");
    visit("chunk", self.chunk, "channels of a chunk in form a: 2, 4, 8, 16, 32 or 64");
  }
};

// X [rows, m] = large [rows, m] · small [m, m], the range shared evenly (§2.2): with the singular
// values s of X, largeᵀ large = small smallᵀ = diag(s). Directions without extent get none.
struct Decomposition {
  std::vector<double> large;
  std::vector<double> small;
  std::vector<double> singular;  // falling
};
Decomposition decompose(std::span<const double> matrix, int64_t rows, int64_t m);

// round(x / step) for |x| <= step * (2^(bits - 1) - 1), step = max |x| / (2^(bits - 1) - 1) (§2.1).
float symmetric_step(std::span<const float> numbers, int64_t bits);

// Bits of each channel: everyone starts with the fewest, then whoever gains most gets more, until
// `total` is spent (§2.8 step 5). importance: energy of a channel's rounding error, relatively.
std::vector<int64_t> allocate_bits(std::span<const double> importance,
                                   int64_t fewest,
                                   int64_t total);

std::shared_ptr<const kernels::PageCodec> make_plus_codec(int64_t kv_heads,
                                                          int64_t head_dim,
                                                          int64_t bits);
std::shared_ptr<const kernels::PageCodec> make_paper_codec(
    int64_t kv_heads, int64_t head_dim, int64_t bits, bool transposed, int64_t chunk);

kv::KvStorePtr make_store(const DecoQuantOptions& options, const kernels::AttentionShape& shape);
kv::StoreEntry store_entry();

}  // namespace adze::methods::decoquant
