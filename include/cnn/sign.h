/* Signatures of .cnn files (Ed25519, RFC 8032): who has a public key can tell that a model is, byte for byte, what the
 * owner of its secret key signed. A signature stands behind the model in its file (docs/format.md); who asks for none
 * reads the model as if it were not there.
 *
 * A key has a name: NAME.key holds the secret key, NAME.pub the public one, each as a line of text. */
#ifndef CNN_SIGN_H
#define CNN_SIGN_H

#include "cnn/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether this build can sign and check; without libsodium all below fail with CNN_ERR_UNSUPPORTED. */
CNN_API bool cnn_can_sign(void);

/* Makes a key: NAME.key, which only the user may read, and NAME.pub. Files that exist are not overwritten; on failure
 * neither is left. */
CNN_API cnn_status cnn_key_create(const char *name);

/* Writes the .cnn file `path` with a signature to `output`, which may be the same file: to a temporary file beside it,
 * synced, renamed. One that was there is replaced. The file must be a model; its bytes stay. */
CNN_API cnn_status cnn_model_sign(const char *path, const char *secret_key_path, const char *output,
                                  size_t *bytes /* or NULL */);

/* cnn_model_load of a file that this key signed. What is not signed, is signed by another key, or was changed since is
 * refused before it is read, with CNN_ERR_FORMAT. */
CNN_API cnn_status cnn_model_load_signed(const char *path, const char *public_key_path, cnn_model **model);

#ifdef __cplusplus
}
#endif
#endif
