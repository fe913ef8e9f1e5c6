#include "comm/buckets.h"

#include <stdlib.h>

#include "comm/comm_impl.h"
#include "common/memory.h"

struct bucket {
    struct interval range;          /* of the flat buffer */
    int n_segments, n_pending;      /* segments, and those not yet final in this step */
    struct comm_request **requests; /* [n_requests], of pieces under way */
    int n_requests;
    int first_owner; /* sharded: ranks first_owner .. first_owner + n_requests - 1 own pieces of it */
};

struct buckets {
    struct comm *group;
    float *gradients;
    int64_t n_elem;
    bool sharded, in_step;
    int n_segments, n_buckets, n_started;
    int *bucket_of;       /* [n_segments] */
    bool *final;          /* [n_segments] reported in this step */
    struct bucket *items; /* [n_buckets] */
    struct comm_request **requests;
    int64_t *offsets; /* [size + 1] of the shards */
    int64_t n_bytes;
};

static status_t check_segment(const struct buckets *b, const struct bucket_segment *s, int i) {
    CHECK(s->n_elem > 0 && s->offset >= 0 && s->offset <= b->n_elem - s->n_elem, STATUS_INTERNAL,
          "gradient segment %d, %lld elements at %lld, leaves the buffer of %lld", i, (long long)s->n_elem,
          (long long)s->offset, (long long)b->n_elem);
    return STATUS_OK;
}

/* Fill the buckets one after the other; a bucket is closed before the segment that would make it too large.
 */
int buckets_cut(const struct bucket_segment *segments, int n_segments, size_t bucket_bytes, int *bucket_of,
                struct interval *ranges) {
    const int64_t bucket_elem = (int64_t)(bucket_bytes / sizeof(float));
    int n = 0;
    for (int i = 0; i < n_segments; i++) {
        const struct bucket_segment *s = &segments[i];
        const struct interval range = {.begin = s->offset, .end = s->offset + s->n_elem};
        const struct interval had = n > 0 ? ranges[n - 1] : range;
        const struct interval both = {.begin = had.begin < range.begin ? had.begin : range.begin,
                                      .end = had.end > range.end ? had.end : range.end};
        if (n > 0 && interval_length(both) <= bucket_elem)
            ranges[n - 1] = both;
        else
            ranges[n++] = range;
        bucket_of[i] = n - 1;
    }
    return n;
}

static status_t build(struct buckets *b, const struct bucket_segment *segments, size_t bucket_bytes) {
    struct interval *ranges = memory_zeroed((size_t)b->n_segments, sizeof *ranges);
    CHECK(ranges, STATUS_NO_MEMORY, "no memory for %d gradient segments", b->n_segments);
    status_t status = STATUS_OK;
    for (int i = 0; i < b->n_segments; i++) TRY_TO(done, check_segment(b, &segments[i], i));
    b->n_buckets = buckets_cut(segments, b->n_segments, bucket_bytes, b->bucket_of, ranges);
    for (int i = 0; i < b->n_buckets; i++) b->items[i].range = ranges[i];
    for (int i = 0; i < b->n_segments; i++) b->items[b->bucket_of[i]].n_segments++;
done:
    free(ranges);
    return status;
}

static int compare_ranges(const void *a, const void *b) {
    const struct interval *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static status_t check_disjoint(const struct buckets *b) {
    struct interval *ranges = memory_zeroed((size_t)b->n_buckets, sizeof *ranges);
    int overlap = 0;
    CHECK(ranges, STATUS_NO_MEMORY, "no memory for %d gradient buckets", b->n_buckets);
    for (int i = 0; i < b->n_buckets; i++) ranges[i] = b->items[i].range;
    qsort(ranges, (size_t)b->n_buckets, sizeof *ranges, compare_ranges);
    for (int i = 1; i < b->n_buckets && !overlap; i++)
        if (ranges[i].begin < ranges[i - 1].end) overlap = i;
    const struct interval at = ranges[overlap];
    free(ranges);
    CHECK(!overlap, STATUS_INTERNAL,
          "gradient segments are not neighbours in order: bucket at %lld meets another", (long long)at.begin);
    return STATUS_OK;
}

/* Which ranks own a piece of each bucket, and room for the requests. */
static status_t assign_owners(struct buckets *b) {
    const int size = comm_size(b->group);
    size_t n_requests = 0;
    for (int r = 0; r <= size; r++)
        b->offsets[r] = r == size ? b->n_elem : interval_part(b->n_elem, r, size).begin;
    for (int i = 0; i < b->n_buckets; i++) {
        struct bucket *bucket = &b->items[i];
        bucket->n_requests = 1;
        if (b->sharded) {
            int first = 0, last = size - 1;
            while (b->offsets[first + 1] <= bucket->range.begin) first++;
            while (b->offsets[last] >= bucket->range.end) last--;
            bucket->first_owner = first;
            bucket->n_requests = last - first + 1;
        }
        n_requests += (size_t)bucket->n_requests;
    }
    b->requests = memory_zeroed(n_requests, sizeof *b->requests);
    CHECK(b->requests, STATUS_NO_MEMORY, "no memory for %d gradient buckets", b->n_buckets);
    struct comm_request **next = b->requests;
    for (int i = 0; i < b->n_buckets; i++) {
        b->items[i].requests = next;
        next += b->items[i].n_requests;
    }
    return STATUS_OK;
}

status_t buckets_new(struct comm *group, float *gradients, int64_t n_elem,
                     const struct bucket_segment *segments, int n_segments, size_t bucket_bytes, bool sharded,
                     struct buckets **out) {
    status_t status = STATUS_OK;
    const size_t n = (size_t)n_segments;
    struct buckets *b = memory_zeroed(1, sizeof *b);
    CHECK(b, STATUS_NO_MEMORY, "no memory for gradient buckets");
    *b = (struct buckets){.group = group,
                          .gradients = gradients,
                          .n_elem = n_elem,
                          .n_segments = n_segments,
                          .sharded = sharded && comm_size(group) > 1};
    b->bucket_of = memory_zeroed(n, sizeof *b->bucket_of);
    b->final = memory_zeroed(n, sizeof *b->final);
    b->items = memory_zeroed(n, sizeof *b->items);
    b->offsets = memory_zeroed((size_t)comm_size(group) + 1, sizeof *b->offsets);
    CHECK_TO(fail, b->bucket_of && b->final && b->items && b->offsets, STATUS_NO_MEMORY,
             "no memory for %d gradient segments", n_segments);
    TRY_TO(fail, build(b, segments, bucket_bytes));
    TRY_TO(fail, check_disjoint(b));
    TRY_TO(fail, assign_owners(b));
    *out = b;
    return STATUS_OK;
fail:
    buckets_free(&b);
    return status;
}

void buckets_free(struct buckets **handle) {
    struct buckets *b = *handle;
    if (!b) return;
    free(b->bucket_of);
    free(b->final);
    free(b->items);
    free(b->requests);
    free(b->offsets);
    free(b);
    *handle = NULL;
}

int buckets_count(const struct buckets *b) {
    return b->n_buckets;
}

status_t buckets_begin_step(struct buckets *b) {
    CHECK(!b->in_step, STATUS_INTERNAL, "gradient buckets: a step begins inside a step");
    for (int i = 0; i < b->n_buckets; i++) b->items[i].n_pending = b->items[i].n_segments;
    for (int i = 0; i < b->n_segments; i++) b->final[i] = false;
    b->n_started = 0;
    b->n_bytes = 0;
    b->in_step = true;
    return STATUS_OK;
}

static status_t start_bucket(struct buckets *b, struct bucket *bucket) {
    if (comm_size(b->group) == 1) return STATUS_OK;
    b->n_bytes += interval_length(bucket->range) * (int64_t)sizeof *b->gradients;
    if (!b->sharded)
        return comm_all_reduce_begin(b->group, b->gradients + bucket->range.begin,
                                     interval_length(bucket->range), COMM_F32, COMM_SUM,
                                     &bucket->requests[0]);
    for (int k = 0; k < bucket->n_requests; k++) {
        const int owner = bucket->first_owner + k;
        const struct interval shard = {.begin = b->offsets[owner], .end = b->offsets[owner + 1]};
        const struct interval piece = interval_meet(bucket->range, shard);
        TRY(comm_reduce_begin(b->group, owner, b->gradients + piece.begin, interval_length(piece), COMM_F32,
                              COMM_SUM, &bucket->requests[k]));
    }
    return STATUS_OK;
}

status_t buckets_ready(struct buckets *b, int segment) {
    CHECK(b->in_step && segment >= 0 && segment < b->n_segments && !b->final[segment], STATUS_INTERNAL,
          "gradient segment %d of %d reported twice or outside a step", segment, b->n_segments);
    b->final[segment] = true;
    b->items[b->bucket_of[segment]].n_pending--;
    /* all ranks begin the reductions in one order: a full bucket waits for those before it */
    while (b->n_started < b->n_buckets && b->items[b->n_started].n_pending == 0) {
        TRY(start_bucket(b, &b->items[b->n_started]));
        b->n_started++;
    }
    comm_poke(b->group);
    return STATUS_OK;
}

void buckets_poke(void *buckets) {
    comm_poke(((struct buckets *)buckets)->group);
}

status_t buckets_wait(struct buckets *b, struct buckets_stats *stats) {
    CHECK(b->in_step && b->n_started == b->n_buckets, STATUS_INTERNAL,
          "gradient buckets: %d of %d are complete at the end of backward", b->n_started, b->n_buckets);
    b->in_step = false;
    for (int i = 0; i < b->n_buckets; i++)
        for (int k = 0; k < b->items[i].n_requests; k++) {
            const status_t status = request_wait_device(&b->items[i].requests[k], COMM_FOR_GRADIENTS);
            if (status != STATUS_OK)
                return status_context(status, "sum of gradients, bucket %d of %d", i, b->n_buckets);
        }
    if (stats) *stats = (struct buckets_stats){.n_bytes = b->n_bytes, .n_buckets = b->n_buckets};
    return STATUS_OK;
}

struct interval buckets_shard(const struct buckets *b) {
    if (!b->sharded) return (struct interval){.begin = 0, .end = b->n_elem};
    return interval_part(b->n_elem, comm_rank(b->group), comm_size(b->group));
}

status_t buckets_gather_parameters(struct buckets *b, float *parameters) {
    struct comm_request *request = NULL;
    if (b->sharded) {
        TRY(comm_all_gather_begin(b->group, parameters, b->offsets, COMM_F32, &request));
        const status_t status = request_wait_device(&request, COMM_FOR_GRADIENTS);
        if (status != STATUS_OK) return status_context(status, "gathering of updated parameters");
    }
    return STATUS_OK;
}
