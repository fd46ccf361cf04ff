#pragma once
// Codecs that round to the nearest of evenly spaced numbers, within groups.

#include <memory>

#include "kernels/paged_attention/page_codec.h"

namespace adze::kernels {

// Keys: a group is one channel of a page's 32 tokens. Values: a group is 32 channels of one token.
// Each group has its least number and step in f16: Liu et al., "KIVI", arXiv:2402.02750, section
// 3.2, with their group of 32. bits: 2 or 4. A page takes 2 * kv_heads * head_dim * (4 * bits + 4)
// bytes, values as if heads were a multiple of 32 channels wide.
std::shared_ptr<const PageCodec> make_kivi_codec(int64_t kv_heads, int64_t head_dim, int64_t bits);

// Round to nearest a token and head, keys and values alike: 4-bit codes between the least and the
// largest of a head's numbers. A page takes 2 * kv_heads * (16 * head_dim + 128) bytes, likewise.
std::shared_ptr<const PageCodec> make_int4_codec(int64_t kv_heads, int64_t head_dim);

}  // namespace adze::kernels
