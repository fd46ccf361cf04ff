#pragma once
// The last rows' queries of one layer, with what turns their scores into attention: for policies
// that judge tokens by what the newest rows look at. A ring in one page of the pool: queries
// [places, heads, head_dim] f16, then the logarithms of the sums of exponentials [places, heads]
// f32: as many places as the window has rows, above 64 rounded up.

#include <cstdint>
#include <vector>

#include "core/state_stream.h"
#include "kv/page_pool.h"

namespace adze::kv {

struct QueryRows {
  std::vector<float> query;        // [rows, heads, head_dim], oldest first
  std::vector<float> log_sum_exp;  // [rows, heads]
  std::vector<int32_t> back;       // rows that came after each: 0 for the newest
};

class RecentQueries {
 public:
  static int64_t page_bytes(int64_t window, int64_t heads, int64_t head_dim);

  // Takes in rows [rows, heads, head_dim]; keeps at least the last `window` of all so far.
  // heads * head_dim a multiple of 16.
  void push(PagePool& pool,
            int64_t window,
            int64_t heads,
            int64_t head_dim,
            const float* query,
            const float* log_sum_exp,
            int64_t rows);
  QueryRows last(int64_t rows) const;  // at most as many as are held
  int64_t held() const { return held_; }
  int64_t heads() const { return heads_; }
  int64_t head_dim() const { return head_dim_; }
  int64_t bytes() const { return page_ ? page_.bytes() : 0; }
  void clear() { *this = RecentQueries(); }

  void save(core::StateWriter& writer) const;
  void load(core::StateReader& reader, PagePool& pool);

 private:
  void resize(PagePool& pool, int64_t places, int64_t heads, int64_t head_dim);

  PageRef page_;
  int64_t places_ = 0;
  int64_t heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t held_ = 0;
  int64_t next_ = 0;  // place of the next row
};

}  // namespace adze::kv
