/* What the build flavour decides. ERLMCP_CHECKED comes from setup.py (ERLMCP_BUILD=checked and the flavours above it). */
#ifndef ERLMCP_DEBUG_H
#define ERLMCP_DEBUG_H

#ifdef ERLMCP_CHECKED
#define ERLMCP_IS_CHECKED 1
#else
#define ERLMCP_IS_CHECKED 0
#endif

#endif
