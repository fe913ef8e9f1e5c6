/* Include this first, and a test of comm.h on host memory runs over the memory of an emulated GPU: its
 * buffers are copied to the device by the compute stream when an operation begins, and back when it has been
 * waited for (in turn for the host, and for the device with a copy behind it). Exits with 77 where the GPU
 * plugin's twin was not built. */
#ifndef TESTS_SUPPORT_DEVICE_COMM_H
#define TESTS_SUPPORT_DEVICE_COMM_H

#include "comm/buckets.h"
#include "comm/comm.h"
#include "comm/exchange.h"

/* comm_start() and the plugin's comm_open(); comm_close() and comm_finish(). */
status_t device_start(int *argc, char ***argv, struct comm **world);
status_t device_finish(struct comm **world);

status_t device_all_reduce_begin(struct comm *comm, void *data, int64_t n_elem, enum comm_type type,
                                 enum comm_op op, struct comm_request **request);
status_t device_reduce_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                             enum comm_op op, struct comm_request **request);
status_t device_all_gather_begin(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                                 struct comm_request **request);
status_t device_broadcast_begin(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type,
                                struct comm_request **request);
status_t device_transfer_begin(struct comm *comm, const struct comm_transfer *sends, int n_sends,
                               const struct comm_transfer *receives, int n_receives,
                               struct comm_request **request);
status_t device_wait(struct comm_request **request);
status_t device_test(struct comm_request **request, bool *done);

status_t device_all_reduce(struct comm *comm, void *data, int64_t n_elem, enum comm_type type,
                           enum comm_op op);
status_t device_reduce_scatter(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type,
                               enum comm_op op);
status_t device_all_gather(struct comm *comm, void *data, const int64_t *offsets, enum comm_type type);
status_t device_broadcast(struct comm *comm, int root, void *data, int64_t n_elem, enum comm_type type);
status_t device_gather(struct comm *comm, int root, const void *part, void *whole, const int64_t *offsets,
                       enum comm_type type);

status_t device_exchange_begin(struct exchange_plan *plan, const struct pseudo_label *const *send,
                               struct pseudo_label *const *receive, struct exchange_request **request);
status_t device_exchange_end(struct exchange_request **request, struct exchange_stats *stats);
status_t device_exchange_plan_new(struct comm *world, int n_peers, const struct comm_membership *peers,
                                  int64_t n_images, struct exchange_plan **plan);

status_t device_buckets_new(struct comm *group, float *gradients, int64_t n_elem,
                            const struct bucket_segment *segments, int n_segments, size_t bucket_bytes,
                            bool sharded, struct buckets **buckets);
void device_buckets_free(struct buckets **buckets);
status_t device_buckets_begin_step(struct buckets *buckets);
status_t device_buckets_wait(struct buckets *buckets, struct buckets_stats *stats);
status_t device_buckets_gather(struct buckets *buckets, float *parameters);

#ifndef DEVICE_COMM_ITSELF
#define comm_start                device_start
#define comm_finish               device_finish
#define comm_all_reduce_begin     device_all_reduce_begin
#define comm_reduce_begin         device_reduce_begin
#define comm_all_gather_begin     device_all_gather_begin
#define comm_broadcast_begin      device_broadcast_begin
#define comm_transfer_begin       device_transfer_begin
#define comm_wait                 device_wait
#define comm_test                 device_test
#define comm_all_reduce           device_all_reduce
#define comm_reduce_scatter       device_reduce_scatter
#define comm_all_gather           device_all_gather
#define comm_broadcast            device_broadcast
#define comm_gather               device_gather
#define exchange_begin            device_exchange_begin
#define exchange_end              device_exchange_end
#define exchange_plan_new         device_exchange_plan_new
#define buckets_new               device_buckets_new
#define buckets_free              device_buckets_free
#define buckets_begin_step        device_buckets_begin_step
#define buckets_wait              device_buckets_wait
#define buckets_gather_parameters device_buckets_gather
#endif

#endif
