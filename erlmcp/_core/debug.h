/* What the build flavour decides: setup.py defines ERLMCP_CHECKED for "checked" and the flavours above it. */
#ifndef ERLMCP_DEBUG_H
#define ERLMCP_DEBUG_H

#ifdef ERLMCP_CHECKED
#define ERLMCP_IS_CHECKED 1
#else
#define ERLMCP_IS_CHECKED 0
#endif

#endif
