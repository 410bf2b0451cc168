# Writes Base/Base/FaultCode.swift from Proto/errors.json. Run from the repository root (ops/dev/regen does).
import json,re
rows=json.load(open('Proto/errors.json'))
def camel(s): 
    p=s.split('_'); r=p[0]+''.join(x.title() for x in p[1:]); return '`internal`' if r=='internal' else r
g={'UNAUTHENTICATED':'unauthenticated','PERMISSION_DENIED':'permissionDenied','NOT_FOUND':'notFound','INVALID_ARGUMENT':'invalidArgument','ALREADY_EXISTS':'alreadyExists','RESOURCE_EXHAUSTED':'resourceExhausted','UNAVAILABLE':'unavailable','ABORTED':'aborted','FAILED_PRECONDITION':'failedPrecondition','OUT_OF_RANGE':'outOfRange','DATA_LOSS':'dataLoss','UNIMPLEMENTED':'unimplemented','INTERNAL':'internal','DEADLINE_EXCEEDED':'deadlineExceeded'}
o=['// Generated from Proto/errors.json by ops/dev/regen. Do not edit.','','/// Every fault a user can see.','public enum FaultCode: String, Sendable, CaseIterable {']
for r in rows: o.append(f'  case {camel(r["code"])} = "{r["code"]}"')
o.append('')
def sw(name,typ,f):
    o.append(f'  public var {name}: {typ} {{'); o.append('    switch self {')
    for r in rows: o.append(f'    case .{camel(r["code"])}: {f(r)}')
    o.append('    }'); o.append('  }')
sw('grpc','GrpcStatus',lambda r:'.'+g[r['grpc']]); sw('http','Int',lambda r:str(r['http'])); sw('isRetriable','Bool',lambda r:str(r['retriable']).lower())
sw('what','String',lambda r:json.dumps(r['what'])); sw('advice','String',lambda r:json.dumps(r['do']))
o.append('}')
open('Base/Base/FaultCode.swift','w').write('\n'.join(o)+'\n')
