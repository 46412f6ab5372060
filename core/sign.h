/* Signatures of files: where they lie and how they are checked. Making them is in cnn/sign.h.
 *
 * The last 104 bytes of a signed file: public key [32], Ed25519 signature [64] of all bytes before these 104, and
 * "\x8F" "CNNSIG1". */
#ifndef CNN_CORE_SIGN_H
#define CNN_CORE_SIGN_H

#include "cnn/sign.h"

enum { CNN_KEY_BYTES = 32, CNN_SIGNATURE_BYTES = 104 };

typedef struct cnn_public_key {
    uint8_t bytes[CNN_KEY_BYTES];
    const char *path; /* for messages */
} cnn_public_key;

/* Whether a file ends in a signature, by its last bytes alone. */
bool cnn_signature_here(const uint8_t *data, size_t size);

/* Reads NAME.pub. What checking needs of the system is done here, before a sandbox. */
cnn_status cnn_public_key_read(const char *path, cnn_public_key *key);

/* Whether NAME.key can be read: before long work whose result is to be signed. */
cnn_status cnn_secret_key_check(const char *path);

/* Refuses a file in memory that this key did not sign. */
cnn_status cnn_signature_check(const uint8_t *data, size_t size, const char *path, const cnn_public_key *key);

/* cnn_model_load_signed with a key that was read. The file is copied to memory first: who may write to it cannot change
 * it after it was checked. */
cnn_status cnn_model_load_signed_by(const char *path, const cnn_public_key *key, cnn_model **model);

#endif
