// The file of a snapshot of version 1 with every field. What was added to version 1 since may be missing.

let recordedSnapshot = #"""
    heddle-snapshot {"node":"node-a","source":"https://api","version":1,"writtenAt":1000.5}
    {"service":{"_0":{"affinitySeconds":10,"annotations":{"heddle.io/x":"y"},"clusterIPs":["10.96.0.1","::1:0:0:0:2"\#
    ],"creationTime":8589934592,"externalIPs":["192.0.2.1"],"externalTrafficPolicy":"Local","hasHeadlessLabel":true,\#
    "healthCheckNodePort":32000,"ingress":[{"address":"192.0.2.2","isProxyMode":true}],"internalTrafficPolicy":"Loca\#
    l","name":{"name":"web","namespace":"shop"},"ports":[{"appProtocol":"grpc","name":"http","nodePort":30080,"port"\#
    :80,"targetPort":{"name":{"_0":"h"}},"transport":132},{"appProtocol":"x","name":"n","nodePort":1,"port":81,"targ\#
    etPort":{"number":{"_0":82}},"transport":6}],"proxyName":"p","publishNotReadyAddresses":true,"selector":{"app":"\#
    web"},"sourceRanges":["192.0.2.0/24"],"type":"LoadBalancer"}}}
    {"endpointSlice":{"_0":{"addressType":"IPv4","endpoints":[{"address":"10.1.0.2","conditions":6,"forNodes":["node\#
    -a"],"forZones":["a"],"nodeName":"node-a","zone":"a"}],"hasHeadlessLabel":true,"lastChangeTriggerTime":1.5,"name\#
    ":{"name":"web-1","namespace":"shop"},"ports":[{"name":"http","port":8080,"transport":17}],"proxyName":"p","serv\#
    iceName":"web"}}}
    {"node":{"_0":{"hasDeletionTimestamp":true,"isToBeDeleted":true,"labels":{"zone":"a"},"name":"node-a","nodeIPs":\#
    ["192.168.0.1"],"podCIDRs":["fd00:1::/64"]}}}
    {"namespace":{"_0":{"annotations":{"heddle.io/x":"y"},"labels":{"team":"a"},"name":"shop"}}}
    {"pod":{"_0":{"addresses":["10.1.0.2"],"datagramTransports":[17],"isFinished":false,"isOnHostNetwork":false,"isR\#
    eady":true,"isTerminating":false,"labels":{"app":"web"},"name":{"name":"web-0","namespace":"shop"},"namedPorts":\#
    [{"name":"http","port":8080,"transport":17}],"nodeName":"node-a","ownerKind":"ReplicaSet","ownerName":"web","pro\#
    bePorts":[8081],"serviceAccount":"robot","uid":"p1"}}}
    {"serviceCIDR":{"_0":{"cidrs":["10.96.0.0/16"],"name":"kubernetes"}}}
    {"route":{"_0":{"annotations":{"heddle.io/x":"y"},"creationTime":1,"hostnames":["a.example"],"kind":{"grpc":{}},\#
    "name":{"name":"r","namespace":"shop"},"parents":[{"place":2,"port":80,"sectionName":"http","service":{"name":"w\#
    eb","namespace":"shop"}}],"record":{"entries":[{"controllerName":"c","json":[123,125]}],"generation":3,"parentNa\#
    mespaces":["shop"],"resourceVersion":"7"},"rules":[{"backends":[{"filters":[{"unknown":{"_0":"u"}}],"reference":\#
    {"group":"g","kind":"k","name":{"name":"v2","namespace":"shop"},"port":80},"weight":9}],"filters":[{"ready":{"_0\#
    ":{"requestHeaders":{"_0":{"add":[{"name":"c","value":"d"}],"remove":["e"],"set":[{"name":"a","value":"b"}]}}}}}\#
    ,{"ready":{"_0":{"responseHeaders":{"_0":{"add":[{"name":"c","value":"d"}],"remove":["e"],"set":[{"name":"a","va\#
    lue":"b"}]}}}}},{"ready":{"_0":{"redirect":{"_0":{"hostname":"h","path":{"replacePrefix":{"_0":"/a","with":"/b"}\#
    },"port":1,"scheme":"https","status":301}}}}},{"ready":{"_0":{"rewrite":{"_0":{"hostname":"h","path":{"full":{"_\#
    0":"/x"}}}}}}},{"ready":{"_0":{"cors":{"_0":{"allowCredentials":true,"allowHeaders":["h"],"allowMethods":["PUT"]\#
    ,"allowOrigins":["*"],"exposeHeaders":["e"],"maxAgeSeconds":5}}}}},{"ready":{"_0":{"unresolved":{"_0":"u"}}}},{"\#
    ready":{"_0":{"mirror":{"_0":{"denominator":7,"numerator":1,"target":{"cluster":{"_0":{"cluster":"c","host":"h",\#
    "name":"v2","namespace":"shop","port":80,"subset":"s"}}}}}}}},{"ready":{"_0":{"mirror":{"_0":{"denominator":100,\#
    "numerator":100,"target":{"invalid":{"_0":"gone"}}}}}}},{"redirect":{"_0":{"hostname":"h","path":{"replacePrefix\#
    ":{"_0":"/a","with":"/b"}},"port":1,"scheme":"https","status":301},"path":{"full":{"_0":"/f"}}}},{"rewrite":{"ho\#
    stname":"h","path":{"prefix":{"_0":"/p"}}}},{"mirror":{"_0":{"group":"g","kind":"k","name":{"name":"v2","namespa\#
    ce":"shop"},"port":80},"denominator":7,"numerator":1}},{"unknown":{"_0":"u"}}],"ignoredFields":["f"],"matches":[\#
    {"headers":[{"name":"x","value":{"isRegularExpression":true,"text":"t"}}],"method":"GET","path":{"exact":{"_0":"\#
    /a"}},"query":[{"name":"q","value":{"isRegularExpression":true,"text":"t"}}]},{"headers":[{"name":"x","value":{"\#
    isRegularExpression":true,"text":"t"}}],"method":"GET","path":{"prefix":{"_0":"/b"}},"query":[{"name":"q","value\#
    ":{"isRegularExpression":true,"text":"t"}}]},{"headers":[{"name":"x","value":{"isRegularExpression":true,"text":\#
    "t"}}],"method":"GET","path":{"regularExpression":{"_0":"/c"}},"query":[{"name":"q","value":{"isRegularExpressio\#
    n":true,"text":"t"}}]},{"headers":[{"name":"x","value":{"isRegularExpression":true,"text":"t"}}],"method":"GET",\#
    "path":{"call":{"method":{"isRegularExpression":true,"text":"t"},"service":{"isRegularExpression":true,"text":"t\#
    "}}},"query":[{"name":"q","value":{"isRegularExpression":true,"text":"t"}}]}],"name":"one","retry":{"attempts":2\#
    ,"backoff":[0,3000000000000000000],"classes":4,"codes":[503]},"timeouts":{"backendRequest":[0,2000000000000000],\#
    "request":[0,1000000000000000000]}}]}}}
    end 7 1547446358

    """#
